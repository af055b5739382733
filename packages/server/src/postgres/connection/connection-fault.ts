import pg from 'pg';
import { UnusableDatabase } from '../migrations/unusable-database.js';
import type { ConnectionTarget } from './connection-target.js';

/**
 * Why a connection cannot be had. `unreachable`: it may work again by itself. `refused`: somebody has to
 * mend a setting or a right; `advice` says which, for the operator alone, or what the other side said. `reason`
 * is a few words without roles and secrets, fit for `/readyz`.
 */
export type ConnectionFault =
  | { readonly kind: 'unreachable'; readonly reason: string; readonly advice?: string }
  | { readonly kind: 'refused'; readonly reason: string; readonly advice: string };

type Describe = (target: ConnectionTarget, message: string) => ConnectionFault;

/** By SQLSTATE (PostgreSQL manual, appendix A) or by the code of Node's network and TLS errors. */
const BY_CODE: Readonly<Record<string, Describe>> = {
  ECONNREFUSED: unreachable((to) => `connection refused at ${to.address}`),
  ENOTFOUND: unreachable((to) => `host name ${to.host} not found`),
  EAI_AGAIN: unreachable((to) => `host name ${to.host} could not be looked up`),
  ETIMEDOUT: unreachable(noAnswer),
  EHOSTUNREACH: unreachable((to) => `no route to ${to.address}`),
  ENETUNREACH: unreachable((to) => `no route to ${to.address}`),
  EHOSTDOWN: unreachable((to) => `no route to ${to.address}`),
  ENETDOWN: unreachable((to) => `no route to ${to.address}`),
  EADDRNOTAVAIL: unreachable((to) => `no route to ${to.address}`),
  ECONNRESET: unreachable(lost),
  ECONNABORTED: unreachable(lost),
  EPIPE: unreachable(lost),
  ENOENT: unreachable((to) => `no socket at ${to.address}`),
  EACCES: unreachable((to) => `no access to the socket at ${to.address}`),
  '57P01': unreachable((to) => `PostgreSQL at ${to.address} ended the connection`),
  '57P02': unreachable((to) => `PostgreSQL at ${to.address} crashed`),
  '57P03': unreachable((to) => `PostgreSQL at ${to.address} is starting up or shutting down`),
  '57P05': unreachable((to) => `PostgreSQL at ${to.address} ended the idle connection`),
  '53300': unreachable((to) => `PostgreSQL at ${to.address} has no free connections`),
  '25006': unreachable((to) => `PostgreSQL at ${to.address} is read-only, as a standby is`),
  '28P01': badLogin,
  '28000': (to, message) => (message.includes('pg_hba.conf') ? notAdmitted(to, message) : badLogin(to)),
  '3D000': noDatabase,
  // PgBouncer's code for nearly everything, most of which passes.
  '08P01': (to, message) => (message.startsWith('no such database') ? noDatabase(to) : cutOff(to, message)),
  EPROTO: badTls,
};

/** By the words of the driver's own errors, which have no code. */
const BY_MESSAGE: readonly (readonly [words: RegExp, describe: Describe])[] = [
  [
    /timeout expired|connection timeout|Query read timeout|exceeded when trying to connect/,
    unreachable(noAnswer),
  ],
  [/Connection terminated|not queryable|after calling end on the pool/, unreachable(lost)],
  [/error establishing an SSL connection/, unreachable(lost)],
  [
    /does not support SSL/,
    (to) => ({
      kind: 'refused',
      reason: `no TLS at ${to.address}`,
      advice:
        'it does not support TLS, which DATABASE_URL demands. Remove sslmode from DATABASE_URL, or turn TLS on there',
    }),
  ],
  [
    /password must be a (non-empty )?string/,
    (to) => ({
      kind: 'refused',
      reason: `login refused at ${to.address}`,
      advice: `it asks for a password, and DATABASE_URL has none for the user "${to.user}". Add it`,
    }),
  ],
  [/^SASL/, badLogin],
  [/certificate|altnames/i, badTls],
];

const TLS_CODE = /^ERR_(TLS|SSL|OSSL)|CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)/;

/** What `error` says about the connection to `target`; undefined when it says nothing, as an error in a statement. */
export function connectionFault(error: unknown, target: ConnectionTarget): ConnectionFault | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const describe =
    BY_CODE[code] ??
    (code.startsWith('08') ? cutOff : undefined) ??
    (TLS_CODE.test(code) ? badTls : undefined) ??
    (code === '' ? BY_MESSAGE.find(([words]) => words.test(error.message))?.[1] : undefined);
  return describe?.(target, error.message);
}

/** What `error` says when it came while the schema was made ready: there a failing statement is a fault as well. */
export function preparationFault(error: unknown, target: ConnectionTarget): ConnectionFault | undefined {
  if (error instanceof UnusableDatabase)
    return { kind: 'refused', reason: error.reason, advice: error.advice };
  const fault = connectionFault(error, target);
  if (fault !== undefined || !(error instanceof pg.DatabaseError)) return fault;
  if (error.code === '42501') {
    return {
      kind: 'refused',
      reason: 'no right to make our schema',
      advice: `the user "${target.user}" may not make or use our schema there (${oneLine(error.message)}). Let an administrator run: GRANT CREATE ON DATABASE "${target.database}" TO "${target.user}"`,
    };
  }
  return {
    kind: 'refused',
    reason: 'our schema could not be made ready',
    advice: `our schema could not be made ready there (${oneLine(error.message)}; SQLSTATE ${error.code ?? 'unknown'})`,
  };
}

function unreachable(reason: (target: ConnectionTarget) => string): Describe {
  return (target) => ({ kind: 'unreachable', reason: reason(target) });
}

function noAnswer({ address }: ConnectionTarget): string {
  return `no answer from ${address}`;
}

function lost({ address }: ConnectionTarget): string {
  return `connection to ${address} lost`;
}

/** The other side ended the connection and said why. */
function cutOff(to: ConnectionTarget, message: string): ConnectionFault {
  return { kind: 'unreachable', reason: lost(to), advice: `it said: ${oneLine(message)}` };
}

function noDatabase({ address, database }: ConnectionTarget): ConnectionFault {
  return {
    kind: 'refused',
    reason: `no such database at ${address}`,
    advice: `there is no database "${database}". Create it, or name another in DATABASE_URL`,
  };
}

function badLogin({ address, user }: ConnectionTarget): ConnectionFault {
  return {
    kind: 'refused',
    reason: `login refused at ${address}`,
    advice: `it refused the user "${user}" or its password. Correct them in DATABASE_URL`,
  };
}

function notAdmitted({ address, user }: ConnectionTarget, message: string): ConnectionFault {
  const advice = message.includes('no encryption')
    ? 'it admits no connection without TLS from here. Add sslmode=verify-full (or no-verify) to DATABASE_URL'
    : `its pg_hba.conf does not admit the user "${user}" from this machine. Add a line for it there`;
  return { kind: 'refused', reason: `login refused at ${address}`, advice };
}

function badTls({ address }: ConnectionTarget, message: string): ConnectionFault {
  return {
    kind: 'refused',
    reason: `TLS failed at ${address}`,
    advice: `TLS failed (${oneLine(message)}). Name its authority with sslrootcert in DATABASE_URL, or use sslmode=no-verify where the network is trusted`,
  };
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').slice(0, 200);
}
