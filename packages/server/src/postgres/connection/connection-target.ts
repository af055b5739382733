import type pg from 'pg';

/** Where a connection string leads, as far as it may be named in a message. */
export interface ConnectionTarget {
  /** `host:port`, or the path of a socket. */
  readonly address: string;
  readonly host: string;
  readonly database: string;
  readonly user: string;
}

/** How long a connection may take to be made, in ms. */
const CONNECT_TIMEOUT_MS = 5_000;
/** Silence on a connection after which the system asks whether the other side still lives, in ms. */
const KEEPALIVE_MS = 10_000;

/** What PostgreSQL's own programs call a weaker or an equal check, and what `pg` 8 takes all the same for verify-full. */
const AS_VERIFY_FULL: readonly string[] = ['allow', 'prefer', 'require', 'verify-ca'];
const SSL_MODES: readonly string[] = ['disable', 'no-verify', ...AS_VERIFY_FULL, 'verify-full'];

/**
 * What every connection of ours has in common. What the URL says itself (`sslmode`, `options`) wins. Throws
 * when the URL cannot be used.
 */
export function connectionOptions(
  url: string,
  applicationName: string,
  queryTimeoutMs: number,
): pg.ClientConfig {
  return {
    connectionString: withPlainSslMode(url),
    application_name: applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_MS,
  };
}

/** The target of a client, with what its URL left out taken from the `PG*` variables and defaults. */
export function targetOf(client: pg.Client): ConnectionTarget {
  const { host, port, database = '', user = '' } = client;
  const named = host.includes(':') ? `[${host}]` : host;
  return { address: host.startsWith('/') ? host : `${named}:${port}`, host, database, user };
}

/**
 * The URL with its `sslmode` as `pg` understands it. For an alias of verify-full `pg` would write a warning of
 * nine lines, and it takes what it does not know for one. Throws for that.
 */
function withPlainSslMode(url: string): string {
  const [, start = '', query = '', rest = ''] = /^([^?#]*\?)([^#]*)(.*)$/s.exec(url) ?? [];
  const parameters = new URLSearchParams(query);
  // As in pg, the last one counts.
  const mode = parameters.getAll('sslmode').at(-1) ?? '';
  if (mode !== '' && !SSL_MODES.includes(mode)) {
    throw new Error(`sslmode=${JSON.stringify(mode)} is none of ${SSL_MODES.join(', ')}`);
  }
  // That makes pg tell the modes apart, and it is silent.
  if (!AS_VERIFY_FULL.includes(mode) || parameters.getAll('uselibpqcompat').at(-1) === 'true') return url;
  return `${start}${query.replaceAll(/(^|&)sslmode=[^&]*/g, '$1sslmode=verify-full')}${rest}`;
}
