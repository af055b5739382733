import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { silentLog } from '../../lib/log.js';
import { Database } from '../connection/database.js';
import { MIGRATION_STEPS } from './migration-steps.js';
import { migrate } from './migrations.js';

let database: TestDatabase;
let roles: string[];

beforeEach(async () => {
  database = await createTestDatabase();
  roles = [];
});

afterEach(async () => {
  for (const role of roles) await sql(database.url, `DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`);
  await database.drop();
});

/** Creates a login role that may create schemas in the database. */
async function makeLogin(suffix = ''): Promise<{ name: string; url: string }> {
  const name = `user_${database.name}${suffix}`;
  await sql(database.url, `CREATE ROLE ${name} LOGIN PASSWORD 'a-password'`);
  roles.push(name);
  await sql(database.url, `GRANT CREATE ON DATABASE ${database.name} TO ${name}`);
  return { name, url: Object.assign(new URL(database.url), { username: name, password: 'a-password' }).href };
}

async function migrated(url = database.url, steps = MIGRATION_STEPS): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await migrate(client, steps);
  } finally {
    await client.end();
  }
}

function applied(schema = 'realtime'): Promise<{ number: number; name: string }[]> {
  return sql(database.url, `SELECT number, name FROM ${schema}.migrations ORDER BY number`);
}

describe('migrations', () => {
  it('are numbered from 1 without gaps', () => {
    expect(MIGRATION_STEPS.map(({ number }) => number)).toEqual(MIGRATION_STEPS.map((_, index) => index + 1));
  });

  it('run once when many nodes start at the same time', async () => {
    const nodes = Array.from(
      { length: 6 },
      () =>
        new Database({
          url: database.url,
          log: silentLog,
          maxReconnectDelayMs: 100,
          onReady: async () => undefined,
        }),
    );
    await Promise.all(nodes.map((node) => node.start()));
    expect(nodes.map(({ state }) => state.status)).toEqual(nodes.map(() => 'up'));
    expect(await applied()).toEqual(MIGRATION_STEPS.map(({ number, name }) => ({ number, name })));
    await Promise.all(nodes.map((node) => node.stop()));
  });

  it('that are new run after those applied earlier', async () => {
    await migrated();
    const number = MIGRATION_STEPS.length + 1;
    const more = { number, name: 'more', sql: (schema: string) => `CREATE TABLE ${schema}.more ()` };
    await migrated(database.url, [...MIGRATION_STEPS, more]);
    expect((await applied()).at(-1)).toEqual({ number, name: 'more' });
  });

  it('are all rolled back when one of them fails', async () => {
    const broken = { number: MIGRATION_STEPS.length + 1, name: 'broken', sql: () => 'SELECT 1/0' };
    await expect(migrated(database.url, [...MIGRATION_STEPS, broken])).rejects.toMatchObject({
      code: '22012',
    });
    expect(await sql(database.url, `SELECT FROM pg_namespace WHERE nspname = 'realtime'`)).toHaveLength(0);
  });

  it('of a newer server make start fail with a one-line error', async () => {
    await migrated();
    await sql(database.url, `INSERT INTO realtime.migrations (number, name) VALUES (999, 'from the future')`);
    const db = new Database({
      url: database.url,
      log: silentLog,
      maxReconnectDelayMs: 100,
      onReady: async () => undefined,
    });
    await expect(db.start()).rejects.toThrow(
      /^Cannot use PostgreSQL at 127\.0\.0\.1:\d+, database "\w+" \(DATABASE_URL\): its schema realtime belongs to a newer version of this server \(migration 999; this version knows \d+\)\. Start that version or a later one\.$/,
    );
  });

  it('grant privileges to the owner only', async () => {
    const owner = await makeLogin();
    const other = await makeLogin('_other');
    await migrated(owner.url);
    await expect(sql(other.url, 'SELECT FROM realtime.channels')).rejects.toMatchObject({ code: '42501' });
  });

  it('reject invalid channels by constraints', async () => {
    await migrated();
    const insert = (name: string, config: string) =>
      sql(database.url, `INSERT INTO realtime.channels (name, config) VALUES ('${name}', '${config}')`);
    await insert('room', '{}');
    await expect(insert('room', '{}')).rejects.toMatchObject({ code: '23505' });
    await expect(insert('', '{}')).rejects.toMatchObject({ code: '23514' });
    await expect(insert('x'.repeat(101), '{}')).rejects.toMatchObject({ code: '23514' });
    await expect(insert('other', '[]')).rejects.toMatchObject({ code: '23514' });
  });
});

describe('the schema', () => {
  it('is realtime where our login owns it', async () => {
    const { name, url } = await makeLogin();
    await sql(database.url, `CREATE SCHEMA realtime AUTHORIZATION ${name}`);
    await sql(database.url, `REVOKE CREATE ON DATABASE ${database.name} FROM ${name}`);
    expect(await migrated(url)).toBe('realtime');
  });

  it('is realtime where our login is a member of the role that owns it', async () => {
    const group = await makeLogin('_group');
    const { name, url } = await makeLogin();
    await sql(
      database.url,
      `GRANT ${group.name} TO ${name}; CREATE SCHEMA realtime AUTHORIZATION ${group.name}`,
    );
    expect(await migrated(url)).toBe('realtime');
  });

  it('is goforward where another role owns realtime, which stays unchanged', async () => {
    const otherOwner = await makeLogin('_other');
    const { url } = await makeLogin();
    await sql(
      database.url,
      `CREATE SCHEMA realtime AUTHORIZATION ${otherOwner.name}; CREATE TABLE realtime.messages ()`,
    );
    expect(await migrated(url)).toBe('goforward');
    expect(await applied('goforward')).toHaveLength(MIGRATION_STEPS.length);
    expect(await sql(database.url, `SELECT FROM pg_tables WHERE schemaname = 'realtime'`)).toHaveLength(1);
  });

  it('stays goforward after realtime was dropped', async () => {
    const otherOwner = await makeLogin('_other');
    const { url } = await makeLogin();
    await sql(database.url, `CREATE SCHEMA realtime AUTHORIZATION ${otherOwner.name}`);
    await migrated(url);
    await sql(database.url, 'DROP SCHEMA realtime');
    expect(await migrated(url)).toBe('goforward');
  });

  it('does not depend on the search path of the login', async () => {
    const { name, url } = await makeLogin();
    await sql(database.url, `CREATE SCHEMA trap AUTHORIZATION ${name}`);
    await sql(database.url, `ALTER ROLE ${name} IN DATABASE ${database.name} SET search_path = trap, public`);
    expect(await migrated(url)).toBe('realtime');
    expect(
      await sql(database.url, `SELECT FROM pg_class WHERE relnamespace = 'trap'::regnamespace`),
    ).toHaveLength(0);
  });
});
