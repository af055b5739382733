import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { eventually } from './eventually.js';
import type { PostgresVersion } from './matrix.js';
import type { SharedServer } from './shared-postgres.js';
import { sql } from './sql.js';

export { sql } from './sql.js';

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** Terminates all connections to the database and drops it. */
  drop(): Promise<void>;
}

/** Creates a database for a test file on the shared PostgreSQL: empty, or with the server's schema. */
export async function createTestDatabase(
  version: PostgresVersion = 'newest',
  content: 'empty' | 'migrated' = 'empty',
): Promise<TestDatabase> {
  const { url, migrated } = await sharedPostgres(version);
  return create(url, `TEMPLATE ${content === 'migrated' ? migrated : 'template1'}`);
}

/** Creates an empty database of another encoding than UTF8. */
export async function createEncodedDatabase(
  encoding: string,
  version: PostgresVersion = 'newest',
): Promise<TestDatabase> {
  const { url } = await sharedPostgres(version);
  const [server] = await sql<{ major: number }>(
    url,
    `SELECT current_setting('server_version_num')::int / 10000 AS major`,
  );
  const provider = (server?.major ?? 0) < 15 ? '' : 'LOCALE_PROVIDER libc';
  return create(url, `TEMPLATE template0 ENCODING '${encoding}' LC_COLLATE 'C' LC_CTYPE 'C' ${provider}`);
}

async function create(server: string, options: string): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  await execute(server, `CREATE DATABASE ${name} ${options}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, name, drop: () => execute(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

/** Returns the shared PostgreSQL of a version, which starts on the first request. */
async function sharedPostgres(version: PostgresVersion): Promise<SharedServer> {
  const answer = await fetch(`${inject('sharedPostgres')}${version}`);
  if (!answer.ok) throw new Error(`The shared PostgreSQL did not start: ${await answer.text()}`);
  return (await answer.json()) as SharedServer;
}

/** Removes a replication slot as soon as it is inactive. */
export async function dropSlot(url: string, slot: string): Promise<void> {
  await eventually(() =>
    execute(
      url,
      `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${slot}'`,
    ),
  );
}

async function execute(url: string, text: string): Promise<void> {
  await sql(url, text);
}
