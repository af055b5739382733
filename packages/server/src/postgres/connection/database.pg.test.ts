import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { collectingLog } from '../../../../../tests/support/postgres-log-lines.js';
import { PostgresProxy } from '../../../../../tests/support/postgres-proxy.js';
import { StartupError } from '../../lib/startup-error.js';
import { Database, type DatabaseOptions } from './database.js';

let database: TestDatabase;
let cleanups: (() => Promise<unknown>)[];

beforeEach(async () => {
  database = await createTestDatabase();
  cleanups = [];
});

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  await database.drop();
});

function subject(options: Partial<DatabaseOptions> = {}) {
  const log = collectingLog();
  const onReady = vi.fn(async () => undefined);
  const subject = new Database({ url: database.url, log, maxReconnectDelayMs: 100, onReady, ...options });
  cleanups.push(() => subject.stop());
  return { subject, log, onReady };
}

async function openProxy(): Promise<PostgresProxy> {
  const proxy = new PostgresProxy(database.url);
  await proxy.open();
  cleanups.push(() => proxy.close());
  return proxy;
}

function up(subject: Database): Promise<void> {
  return vi.waitFor(() => expect(subject.state).toEqual({ status: 'up' }), { timeout: 10_000, interval: 10 });
}

function changed(
  url: string,
  parts: Partial<Pick<URL, 'username' | 'password' | 'pathname' | 'search'>>,
): string {
  return Object.assign(new URL(url), parts).href;
}

describe('a reachable database', () => {
  it('is up after start, with the schema migrated and onReady called', async () => {
    const { subject: db, onReady, log } = subject();
    await db.start();
    expect(db.state).toEqual({ status: 'up' });
    expect(db.schema).toBe('realtime');
    expect(onReady).toHaveBeenCalledOnce();
    expect(await db.query('SELECT number, name FROM realtime.migrations')).toEqual([
      { number: 1, name: 'channels' },
      { number: 2, name: 'row changes' },
      { number: 3, name: 'resume window' },
      { number: 4, name: 'messages from SQL' },
      { number: 5, name: 'trigger source' },
      { number: 6, name: 'depth of messages from SQL' },
    ]);
    expect(log.lines.map(({ message }) => message)).toEqual(['PostgreSQL connected']);
  });

  it('answers queries of onReady while its state is still down', async () => {
    const seen: unknown[] = [];
    const { subject: db } = subject({
      onReady: async () => {
        seen.push(db.state.status, await db.query('SELECT $1::int AS n', [7]));
      },
    });
    await db.start();
    expect(seen).toEqual(['down', [{ n: 7 }]]);
  });

  it('passes on the error of a statement and stays up', async () => {
    const { subject: db } = subject();
    await db.start();
    await expect(db.query('SELECT 1/0')).rejects.toMatchObject({ code: '22012' });
    expect(db.state).toEqual({ status: 'up' });
  });

  it('reads and writes values the same way whatever ALTER DATABASE has set', async () => {
    await sql(database.url, `ALTER DATABASE ${database.name} SET DateStyle = 'German'`);
    await sql(database.url, `ALTER DATABASE ${database.name} SET search_path = 'somewhere'`);
    await sql(database.url, `ALTER DATABASE ${database.name} SET TimeZone = 'Asia/Tokyo'`);
    await sql(database.url, `ALTER DATABASE ${database.name} SET statement_timeout = '500ms'`);
    const { subject: db } = subject();
    await db.start();
    const [row] = await db.query<{ day: string; zone: string }>(
      `SELECT make_date(2026, 1, 31)::text AS day, current_setting('TimeZone') AS zone, pg_sleep(0.8)::text`,
    );
    expect(row).toMatchObject({ day: '2026-01-31', zone: 'UTC' });
  });

  it('rejects start with the error that onReady throws', async () => {
    const { subject: db } = subject({ onReady: () => Promise.reject(new TypeError('a defect')) });
    await expect(db.start()).rejects.toThrow(TypeError);
    expect(db.state).toEqual({ status: 'down', reason: 'stopped' });
  });
});

describe('a mistake in DATABASE_URL', () => {
  async function lineOf(url: string): Promise<string> {
    const { subject: db, log } = subject({ url });
    const error: unknown = await db.start().catch((thrown: unknown) => thrown);
    if (!(error instanceof StartupError)) throw new Error('no StartupError', { cause: error });
    const { host, password } = new URL(url);
    expect(error.message).toContain(`PostgreSQL at ${host}, database "`);
    expect(error.message).toContain('DATABASE_URL');
    expect(error.message).not.toContain(password);
    expect(error.message).not.toMatch(/\n/);
    expect(log.lines).toEqual([]);
    return error.message;
  }

  it('such as a wrong password gives a one-line error', async () => {
    const line = await lineOf(changed(database.url, { password: 'not-the-password' }));
    expect(line).toContain('refused the user "postgres" or its password');
  });

  it('such as an unknown user gives a one-line error', async () => {
    const line = await lineOf(changed(database.url, { username: 'nobody_here' }));
    expect(line).toContain('refused the user "nobody_here" or its password');
  });

  it('such as an unknown database gives a one-line error', async () => {
    const line = await lineOf(changed(database.url, { pathname: '/not_there' }));
    expect(line).toContain('there is no database "not_there"');
  });

  it('such as TLS that the server does not support gives a one-line error', async () => {
    const line = await lineOf(changed(database.url, { search: '?sslmode=verify-full' }));
    expect(line).toContain('it does not support TLS');
  });

  it('such as a user without CREATE on the database gives a one-line error with the GRANT to run', async () => {
    const user = `user_${database.name}`;
    await sql(database.url, `CREATE ROLE ${user} LOGIN PASSWORD 'a-password'`);
    cleanups.push(() => sql(database.url, `DROP ROLE ${user}`));
    const line = await lineOf(changed(database.url, { username: user, password: 'a-password' }));
    expect(line).toContain(`GRANT CREATE ON DATABASE "${database.name}" TO "${user}"`);
  });

  it('such as an unreadable certificate gives a one-line error', async () => {
    const url = changed(database.url, { search: '?sslrootcert=/not/there.pem' });
    const { subject: db } = subject({ url });
    await expect(db.start()).rejects.toThrow(
      /^DATABASE_URL cannot be used: ENOENT[^\n]*\/not\/there\.pem[^\n]*$/,
    );
  });
});

describe('an unreachable database', () => {
  it('at the start is retried in the background, logged once, and used when it becomes available', async () => {
    const proxy = await openProxy();
    const { url, address } = proxy;
    await proxy.close();
    const { subject: db, log, onReady } = subject({ url });
    await db.start();
    expect(db.state).toEqual({ status: 'down', reason: `connection refused at ${address}` });
    await expect(db.query('SELECT 1')).rejects.toMatchObject({
      code: 'DATABASE_UNAVAILABLE',
      body: { retry_after: 1 },
    });
    await vi.waitFor(() => expect(db.state.status).toBe('down'));
    await proxy.open();
    await up(db);
    expect(onReady).toHaveBeenCalledOnce();
    expect(log.lines.map(({ level, message }) => [level, message])).toEqual([
      ['warn', 'PostgreSQL is unavailable; retrying in the background'],
      ['info', 'PostgreSQL is available again'],
    ]);
    expect(JSON.stringify(log.lines)).not.toContain(new URL(url).password);
  });

  it('is noticed at once even without queries, and onReady runs again after the reconnect', async () => {
    const proxy = await openProxy();
    const { subject: db, log, onReady } = subject({ url: proxy.url });
    await db.start();
    await proxy.close();
    await vi.waitFor(() => expect(db.state.status).toBe('down'), { interval: 5 });
    await expect(db.query('SELECT 1')).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    await proxy.open();
    await up(db);
    expect(await db.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(onReady).toHaveBeenCalledTimes(2);
    expect(log.lines.at(-1)).toMatchObject({ level: 'info', message: 'PostgreSQL is available again' });
  });

  it('reconnects by itself after its connections were terminated, and the running query is DATABASE_UNAVAILABLE', async () => {
    const { subject: db } = subject({ applicationName: database.name });
    await db.start();
    const query = db.query('SELECT pg_sleep(20)');
    const refused = expect(query).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    await vi.waitFor(async () => {
      const ended = await sql(
        database.url,
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = '${database.name}' AND query LIKE 'SELECT pg_sleep%'`,
      );
      expect(ended).toHaveLength(1);
    });
    await refused;
    await up(db);
    expect(await db.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('during onReady runs onReady again after the reconnect', async () => {
    const proxy = await openProxy();
    let calls = 0;
    const { subject: db } = subject({
      url: proxy.url,
      onReady: async () => {
        if (++calls === 1) await proxy.close();
        await db.query('SELECT 1');
      },
    });
    await db.start();
    expect(db.state.status).toBe('down');
    await proxy.open();
    await up(db);
    expect(calls).toBe(2);
  });

  it('is also one that is read-only, like a standby, until it accepts writes', async () => {
    await sql(database.url, `ALTER DATABASE ${database.name} SET default_transaction_read_only = on`);
    const { subject: db } = subject();
    await db.start();
    expect(db.state).toMatchObject({ reason: expect.stringContaining('is read-only') });
    await sql(changed(database.url, { pathname: '/postgres' }), `ALTER DATABASE ${database.name} RESET ALL`);
    await up(db);
  });
});

describe('stop', () => {
  it('ends a running connection attempt, and may be called repeatedly', async () => {
    const proxy = await openProxy();
    proxy.fallSilent();
    const { subject: db, log } = subject({ url: proxy.url });
    const starting = db.start();
    await db.stop();
    await db.stop();
    await starting;
    expect(db.state).toEqual({ status: 'down', reason: 'stopped' });
    expect(log.lines).toEqual([]);
  });

  it('ends reconnecting in the background', async () => {
    const proxy = await openProxy();
    await proxy.close();
    const { subject: db } = subject({ url: proxy.url });
    await db.start();
    await db.stop();
    expect(db.state).toEqual({ status: 'down', reason: 'stopped' });
    await expect(db.query('SELECT 1')).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
  });

  it('closes every connection', async () => {
    const { subject: db } = subject({ applicationName: database.name });
    await db.start();
    await Promise.all(Array.from({ length: 20 }, () => db.query('SELECT 1')));
    await db.stop();
    await vi.waitFor(async () => {
      const left = await sql(
        database.url,
        `SELECT FROM pg_stat_activity WHERE application_name = '${database.name}'`,
      );
      expect(left).toHaveLength(0);
    });
  });
});
