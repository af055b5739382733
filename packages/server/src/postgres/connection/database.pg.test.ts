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

describe('a database that is there', () => {
  it('is up after start, with the schema made and what must be read first read', async () => {
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
    ]);
    expect(log.lines.map(({ message }) => message)).toEqual(['PostgreSQL is connected']);
  });

  it('answers queries that are made while it gets ready, and is not up yet', async () => {
    const seen: unknown[] = [];
    const { subject: db } = subject({
      onReady: async () => {
        seen.push(db.state.status, await db.query('SELECT $1::int AS n', [7]));
      },
    });
    await db.start();
    expect(seen).toEqual(['down', [{ n: 7 }]]);
  });

  it('lets the errors of a statement pass and stays up', async () => {
    const { subject: db } = subject();
    await db.start();
    await expect(db.query('SELECT 1/0')).rejects.toMatchObject({ code: '22012' });
    expect(db.state).toEqual({ status: 'up' });
  });

  it('reads and writes values alike, whatever an administrator set for the database', async () => {
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

  it('that fails while it gets ready for a reason of ours throws that reason', async () => {
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

  it('as a wrong password is one line', async () => {
    const line = await lineOf(changed(database.url, { password: 'not-the-password' }));
    expect(line).toContain('refused the user "postgres" or its password');
  });

  it('as an unknown user is one line', async () => {
    const line = await lineOf(changed(database.url, { username: 'nobody_here' }));
    expect(line).toContain('refused the user "nobody_here" or its password');
  });

  it('as an unknown database is one line', async () => {
    const line = await lineOf(changed(database.url, { pathname: '/not_there' }));
    expect(line).toContain('there is no database "not_there"');
  });

  it('as TLS that the server does not have is one line', async () => {
    const line = await lineOf(changed(database.url, { search: '?sslmode=verify-full' }));
    expect(line).toContain('it does not support TLS');
  });

  it('as a user without the right to make a schema is one line that says what to grant', async () => {
    const user = `user_${database.name}`;
    await sql(database.url, `CREATE ROLE ${user} LOGIN PASSWORD 'a-password'`);
    cleanups.push(() => sql(database.url, `DROP ROLE ${user}`));
    const line = await lineOf(changed(database.url, { username: user, password: 'a-password' }));
    expect(line).toContain(`GRANT CREATE ON DATABASE "${database.name}" TO "${user}"`);
  });

  it('as a certificate that cannot be read is one line', async () => {
    const url = changed(database.url, { search: '?sslrootcert=/not/there.pem' });
    const { subject: db } = subject({ url });
    await expect(db.start()).rejects.toThrow(
      /^DATABASE_URL cannot be used: ENOENT[^\n]*\/not\/there\.pem[^\n]*$/,
    );
  });
});

describe('a database that cannot be reached', () => {
  it('at the start is waited for, told once, and used when it comes', async () => {
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
      ['warn', 'PostgreSQL cannot be used; trying again in the background'],
      ['info', 'PostgreSQL is up again'],
    ]);
    expect(JSON.stringify(log.lines)).not.toContain(new URL(url).password);
  });

  it('any more while nobody asks is noticed at once, and what may have changed is read again', async () => {
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
    expect(log.lines.at(-1)).toMatchObject({ level: 'info', message: 'PostgreSQL is up again' });
  });

  it('since its connections were ended is up again by itself, and the query under way is unavailable', async () => {
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

  it('while it gets ready does not count as read', async () => {
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

  it('for writing, as a standby, is waited for', async () => {
    await sql(database.url, `ALTER DATABASE ${database.name} SET default_transaction_read_only = on`);
    const { subject: db } = subject();
    await db.start();
    expect(db.state).toMatchObject({ reason: expect.stringContaining('is read-only') });
    await sql(changed(database.url, { pathname: '/postgres' }), `ALTER DATABASE ${database.name} RESET ALL`);
    await up(db);
  });
});

describe('stopping', () => {
  it('ends an attempt that is under way, and may be repeated', async () => {
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

  it('ends the attempts in the background', async () => {
    const proxy = await openProxy();
    await proxy.close();
    const { subject: db } = subject({ url: proxy.url });
    await db.start();
    await db.stop();
    expect(db.state).toEqual({ status: 'down', reason: 'stopped' });
    await expect(db.query('SELECT 1')).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
  });

  it('leaves no connection behind', async () => {
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
