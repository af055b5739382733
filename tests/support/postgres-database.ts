import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { eventually } from './eventually.js';
import './postgres-setup.js';

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** Ends every connection to it and removes it. */
  drop(): Promise<void>;
}

/** The PostgreSQLs that what must hold on every version is tested on: `describe.each(POSTGRES_VERSIONS)`. */
export const POSTGRES_VERSIONS = ['newest', 'oldest'] as const;
export type PostgresVersion = (typeof POSTGRES_VERSIONS)[number];

/** An empty database of its own for a test file, on a PostgreSQL that all share (`oldest`: where there is one). */
export async function createTestDatabase(version: PostgresVersion = 'newest'): Promise<TestDatabase> {
  const old = version === 'oldest' ? inject('oldPostgresUrl') : '';
  const server = old === '' ? inject('postgresUrl') : old;
  const name = `test_${randomBytes(8).toString('hex')}`;
  await execute(server, `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, name, drop: () => execute(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

/** Runs statements on a connection of their own. Answers the rows of a single one. */
export async function sql<Row extends object>(url: string, text: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(text)).rows ?? [];
  } finally {
    await client.end();
  }
}

/** Removes a replication slot, as soon as nobody reads it any more. */
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
