import type pg from 'pg';

/** The server, database and user of a connection string: the parts that may appear in a message. */
export interface ConnectionTarget {
  /** `host:port`, or the path of a Unix socket. */
  readonly address: string;
  readonly host: string;
  readonly database: string;
  readonly user: string;
}

/** How long connecting may take, in ms. */
const CONNECT_TIMEOUT_MS = 5_000;
/** Idle time after which the operating system sends TCP keepalives, in ms. */
const KEEPALIVE_MS = 10_000;

/** Modes that libpq checks less strictly or equally, and that `pg` 8 treats as verify-full. */
const AS_VERIFY_FULL: readonly string[] = ['allow', 'prefer', 'require', 'verify-ca'];
const SSL_MODES: readonly string[] = ['disable', 'no-verify', ...AS_VERIFY_FULL, 'verify-full'];

/**
 * Returns the options that all connections of the server share. Parameters of the URL (`sslmode`, `options`)
 * take precedence. Throws when `sslmode` is unknown.
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

/** Returns the target of a client. Parts missing in its URL come from the `PG*` variables and defaults. */
export function targetOf(client: pg.Client): ConnectionTarget {
  const { host, port, database = '', user = '' } = client;
  const named = host.includes(':') ? `[${host}]` : host;
  return { address: host.startsWith('/') ? host : `${named}:${port}`, host, database, user };
}

/**
 * Replaces aliases of verify-full in `sslmode`, for which `pg` prints a warning of nine lines. Throws for an
 * unknown mode, which `pg` would treat as an alias too.
 */
function withPlainSslMode(url: string): string {
  const [, start = '', query = '', rest = ''] = /^([^?#]*\?)([^#]*)(.*)$/s.exec(url) ?? [];
  const parameters = new URLSearchParams(query);
  // The last one counts, as in pg.
  const mode = parameters.getAll('sslmode').at(-1) ?? '';
  if (mode !== '' && !SSL_MODES.includes(mode)) {
    throw new Error(`sslmode=${JSON.stringify(mode)} is not one of ${SSL_MODES.join(', ')}`);
  }
  // With uselibpqcompat, pg distinguishes the modes and prints no warning.
  if (!AS_VERIFY_FULL.includes(mode) || parameters.getAll('uselibpqcompat').at(-1) === 'true') return url;
  return `${start}${query.replaceAll(/(^|&)sslmode=[^&]*/g, '$1sslmode=verify-full')}${rest}`;
}
