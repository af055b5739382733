import pg from 'pg';
import { UnusableDatabase } from '../migrations/unusable-database.js';
import type { ConnectionTarget } from './connection-target.js';

/**
 * Says why a connection failed. `unreachable`: a later attempt may succeed. `refused`: the operator has to
 * fix a setting or a privilege. `advice` names it, or quotes the server's message; it is for the log only,
 * never for clients. `reason` is a few words without roles and secrets, fit for `/readyz`.
 */
export type ConnectionFault =
  | { readonly kind: 'unreachable'; readonly reason: string; readonly advice?: string }
  | { readonly kind: 'refused'; readonly reason: string; readonly advice: string };

type Describe = (target: ConnectionTarget, message: string) => ConnectionFault;

/** Keyed by SQLSTATE (PostgreSQL manual, appendix A) or by the code of Node's network and TLS errors. */
const BY_CODE: Readonly<Record<string, Describe>> = {
  ECONNREFUSED: unreachable((to) => `connection refused at ${to.address}`),
  ENOTFOUND: unreachable((to) => `host name ${to.host} not found`),
  EAI_AGAIN: unreachable((to) => `host name ${to.host} could not be looked up`),
  ETIMEDOUT: unreachable(noResponse),
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
  '25006': unreachable((to) => `PostgreSQL at ${to.address} is read-only, like a standby`),
  '28P01': loginRejected,
  '28000': (to, message) => (message.includes('pg_hba.conf') ? noHbaEntry(to, message) : loginRejected(to)),
  '3D000': noDatabase,
  // PgBouncer reports nearly everything with this code, and most of it is temporary.
  '08P01': (to, message) =>
    message.startsWith('no such database') ? noDatabase(to) : endedWithMessage(to, message),
  EPROTO: tlsFailed,
};

/** Matched against the messages of the driver's own errors, which have no code. */
const BY_MESSAGE: readonly (readonly [pattern: RegExp, describe: Describe])[] = [
  [
    /timeout expired|connection timeout|Query read timeout|exceeded when trying to connect/,
    unreachable(noResponse),
  ],
  [/Connection terminated|not queryable|after calling end on the pool/, unreachable(lost)],
  [/error establishing an SSL connection/, unreachable(lost)],
  [
    /does not support SSL/,
    (to) => ({
      kind: 'refused',
      reason: `no TLS at ${to.address}`,
      advice:
        'it does not support TLS, which DATABASE_URL requires. Remove sslmode from DATABASE_URL, or enable TLS on the server',
    }),
  ],
  [
    /password must be a (non-empty )?string/,
    (to) => ({
      kind: 'refused',
      reason: `login refused at ${to.address}`,
      advice: `it requires a password, and DATABASE_URL has none for the user "${to.user}". Add one`,
    }),
  ],
  [/^SASL/, loginRejected],
  [/certificate|altnames/i, tlsFailed],
];

const TLS_CODE = /^ERR_(TLS|SSL|OSSL)|CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)/;

/**
 * Classifies an error as a fault of the connection to `target`; undefined for other errors, such as SQL
 * errors.
 */
export function connectionFault(error: unknown, target: ConnectionTarget): ConnectionFault | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const describe =
    BY_CODE[code] ??
    (code.startsWith('08') ? endedWithMessage : undefined) ??
    (TLS_CODE.test(code) ? tlsFailed : undefined) ??
    (code === '' ? BY_MESSAGE.find(([pattern]) => pattern.test(error.message))?.[1] : undefined);
  return describe?.(target, error.message);
}

/** Classifies an error of the schema set-up, where a failing statement is a fault as well. */
export function preparationFault(error: unknown, target: ConnectionTarget): ConnectionFault | undefined {
  if (error instanceof UnusableDatabase)
    return { kind: 'refused', reason: error.reason, advice: error.advice };
  const fault = connectionFault(error, target);
  if (fault !== undefined || !(error instanceof pg.DatabaseError)) return fault;
  if (error.code === '42501') {
    return {
      kind: 'refused',
      reason: 'missing privilege to create the schema',
      advice: `the user "${target.user}" may not create or use the server's schema (${oneLine(error.message)}). Let an administrator run: GRANT CREATE ON DATABASE "${target.database}" TO "${target.user}"`,
    };
  }
  return {
    kind: 'refused',
    reason: 'schema setup failed',
    advice: `setting up the server's schema failed (${oneLine(error.message)}; SQLSTATE ${error.code ?? 'unknown'})`,
  };
}

function unreachable(reason: (target: ConnectionTarget) => string): Describe {
  return (target) => ({ kind: 'unreachable', reason: reason(target) });
}

function noResponse({ address }: ConnectionTarget): string {
  return `no answer from ${address}`;
}

function lost({ address }: ConnectionTarget): string {
  return `connection to ${address} lost`;
}

/** The server ended the connection and sent a message. */
function endedWithMessage(to: ConnectionTarget, message: string): ConnectionFault {
  return { kind: 'unreachable', reason: lost(to), advice: `server message: ${oneLine(message)}` };
}

function noDatabase({ address, database }: ConnectionTarget): ConnectionFault {
  return {
    kind: 'refused',
    reason: `no such database at ${address}`,
    advice: `there is no database "${database}". Create it, or change the database name in DATABASE_URL`,
  };
}

function loginRejected({ address, user }: ConnectionTarget): ConnectionFault {
  return {
    kind: 'refused',
    reason: `login refused at ${address}`,
    advice: `it refused the user "${user}" or its password. Correct them in DATABASE_URL`,
  };
}

function noHbaEntry({ address, user }: ConnectionTarget, message: string): ConnectionFault {
  const advice = message.includes('no encryption')
    ? 'it accepts only TLS connections from this machine. Add sslmode=verify-full (or no-verify) to DATABASE_URL'
    : `its pg_hba.conf has no entry for the user "${user}" from this machine. Add one`;
  return { kind: 'refused', reason: `login refused at ${address}`, advice };
}

function tlsFailed({ address }: ConnectionTarget, message: string): ConnectionFault {
  return {
    kind: 'refused',
    reason: `TLS handshake failed at ${address}`,
    advice: `the TLS handshake failed (${oneLine(message)}). Set sslrootcert in DATABASE_URL to its CA certificate, or use sslmode=no-verify on a trusted network`,
  };
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').slice(0, 200);
}
