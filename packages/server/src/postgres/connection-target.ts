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

/** What every connection of ours has in common. What the URL says itself (`sslmode`, `options`) wins. */
export function connectionOptions(
  url: string,
  applicationName: string,
  queryTimeoutMs: number,
): pg.ClientConfig {
  return {
    connectionString: url,
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
