import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Log, loadSettings, RealtimeServer, silentLog } from '@goforward/realtime';
import type { ErrorBody, PresenceMap } from '@goforward/realtime-protocol';
import { expect } from 'vitest';
import { eventually } from './eventually.js';
import type { PostgresVersion } from './matrix.js';
import { createTestDatabase, dropSlot } from './postgres-database.js';

const SECRET = 'a secret for tests, thirty-two bytes or more';

/** A server in this process, on a free port, with a database of its own. */
export interface TestServer {
  readonly port: number;
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly databaseUrl: string;
  readonly metricsPort: number | undefined;
  /** Signs a token for this server. Default: role `user`, valid for one hour. */
  token(userId: string, role?: string, expiresInMs?: number | null): Promise<string>;
  /** Calls the HTTP API; a body is sent as JSON. */
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** Stops the server, runs `before` and then drops the database. */
  stop(before?: () => Promise<void>): Promise<void>;
}

export interface CallOptions {
  readonly token?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed JSON body; an empty object if the body is not JSON. */
  readonly body: AnyAnswer;
}

/** The fields of all answers combined; a test reads those of its answer. */
export interface AnyAnswer extends Omit<ErrorBody, 'field' | 'subscription_id'> {
  readonly field: string;
  readonly name: string;
  readonly id: string;
  readonly message: string;
  readonly status: string;
  readonly token: string;
  readonly user_id: string;
  readonly subscription_id: string;
  readonly channel: string;
  readonly subscriber_count: number;
  readonly presence_count: number;
  readonly presence: PresenceMap;
  readonly connected_users: unknown;
  readonly total_users: number;
  readonly users: string[];
  readonly total: number;
  readonly channels: {
    readonly name: string;
    readonly subscriber_count: number;
    readonly presence_count: number;
  }[];
  readonly warnings: string[];
  readonly triggers: { readonly table: string }[];
  readonly subscriptions: {
    readonly id: string;
    readonly channel_name: string;
    readonly user_id: string;
    readonly active: boolean;
    readonly removable: boolean;
  }[];
  readonly parts: Readonly<Record<string, { readonly status: string; readonly reason?: string }>>;
}

interface TestServerOptions {
  readonly log?: Log;
  /** The PostgreSQL version of the new database. */
  readonly postgres?: PostgresVersion;
}

/**
 * Starts a server with these environment variables over the defaults, with row changes off. It gets a new
 * database with only the server's schema, unless the test names its own in `DATABASE_URL`, which is not
 * dropped.
 */
export async function startTestServer(
  env: Readonly<Record<string, string>> = {},
  options: TestServerOptions = {},
): Promise<TestServer> {
  const kept = env.DATABASE_URL;
  const database =
    kept === undefined
      ? await createTestDatabase(options.postgres, 'migrated')
      : { url: kept, drop: async () => undefined };
  const variables = {
    REALTIME_JWT_SECRET: SECRET,
    DATABASE_URL: database.url,
    // Slots belong to the whole PostgreSQL, which all tests share: startRowChangeServer uses one per server.
    REALTIME_ENABLE_DB_STREAMING: 'false',
    ...env,
  };
  return serve(variables, options.log ?? silentLog, database.drop);
}

/**
 * Starts a server with its own replication slot and resolves when it streams row changes. Stopping the server
 * drops the slot, unless the test named it.
 */
export async function startRowChangeServer(
  env: Readonly<Record<string, string>> = {},
  options: TestServerOptions & { readonly awaitStream?: boolean } = {},
): Promise<TestServer> {
  const slot = env.REALTIME_REPLICATION_SLOT ?? `test_${randomBytes(6).toString('hex')}`;
  const server = await startTestServer(
    { REALTIME_ENABLE_DB_STREAMING: 'true', REALTIME_REPLICATION_SLOT: slot, ...env },
    options,
  );
  const stop: TestServer['stop'] = async (before) => {
    await server.stop(async () => {
      await before?.();
      if (env.REALTIME_REPLICATION_SLOT === undefined) await dropSlot(server.databaseUrl, slot);
    });
  };
  if (options.awaitStream !== false) await streaming(server);
  return { ...server, stop };
}

/** Waits until the server reads row changes. */
async function streaming(server: Pick<TestServer, 'call'>): Promise<void> {
  await eventually(async () => {
    const { parts } = (await server.call('GET', '/readyz')).body;
    expect(parts.row_changes).toEqual({ status: 'streaming' });
  });
}

/**
 * Starts a server with only a port and a temporary data folder set: a generated secret and the embedded
 * PostgreSQL.
 */
export async function startUnconfiguredServer(): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'goforward-test-'));
  const variables = { REALTIME_DATA_DIR: folder };
  return serve(variables, silentLog, () => rm(folder, { recursive: true, force: true }));
}

async function serve(
  variables: Readonly<Record<string, string>>,
  log: Log,
  cleanUp: () => Promise<void>,
): Promise<TestServer> {
  const { settings } = loadSettings({
    flags: {},
    env: { REALTIME_PORT: '0', ...variables },
    envFile: {},
  });
  const server = await RealtimeServer.start(settings, { log }).catch(async (error: unknown) => {
    await cleanUp();
    throw error;
  });
  const url = `http://127.0.0.1:${server.port}`;
  return {
    port: server.port,
    url,
    databaseUrl: server.databaseUrl,
    metricsPort: server.metricsPort,
    token: (userId, role = 'user', expiresInMs = 3_600_000) => {
      if (server.sign === undefined) throw new Error('this server does not sign tokens');
      return server.sign(userId, role, expiresInMs);
    },
    call: (method, path, options) => call(url, method, path, options),
    stop: async (before) => {
      await server.stop();
      await before?.();
      await cleanUp();
    },
  };
}

/** Makes one HTTP request; `path` begins with a slash. */
export async function call(
  url: string,
  method: string,
  path: string,
  options: CallOptions = {},
): Promise<Answer> {
  const { token, body, headers } = options;
  const response = await fetch(`${url}${path}`, {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: parsed(text) };
}

function parsed(text: string): AnyAnswer {
  try {
    return JSON.parse(text) as AnyAnswer;
  } catch {
    return {} as AnyAnswer;
  }
}
