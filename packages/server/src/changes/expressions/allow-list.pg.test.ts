import { describe, expect, it } from 'vitest';
import { postgresVersions } from '../../../../../tests/support/matrix.js';
import { createTestDatabase, sql } from '../../../../../tests/support/postgres-database.js';
import { FUNCTIONS, OPERATORS, TYPES, WITH_STABLE_VARIANTS } from './allow-list.js';

const VERSIONS = postgresVersions('newest', 'oldest');

describe.each(VERSIONS)('the allow-list of conditions, on the %s PostgreSQL', (version) => {
  async function query<Row extends object>(text: string): Promise<Row[]> {
    const database = await createTestDatabase(version);
    try {
      return await sql<Row>(database.url, text);
    } finally {
      await database.drop();
    }
  }

  const list = (names: Iterable<string>) => [...names].map((name) => `'${name}'`).join();

  it('has only functions that depend on their arguments, or on settings that are pinned in our sessions', async () => {
    const rows = await query<{ name: string; volatile: string; kind: string; set: boolean }>(
      `SELECT DISTINCT proname AS name, provolatile AS volatile, prokind AS kind, proretset AS set
       FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN (${list(FUNCTIONS.keys())})`,
    );
    expect(new Set(rows.map(({ name }) => name))).toEqual(new Set(FUNCTIONS.keys()));
    const other = rows.filter(({ volatile, kind, set }) => volatile !== 'i' || kind !== 'f' || set);
    expect(new Set(other.map(({ name }) => name))).toEqual(WITH_STABLE_VARIANTS);
    expect(other.every(({ volatile, kind, set }) => volatile === 's' && kind === 'f' && !set)).toBe(true);
  });

  it('has only operators whose functions are not volatile, and types that PostgreSQL has', async () => {
    const operators = await query<{ name: string; volatile: string }>(
      `SELECT DISTINCT oprname AS name, provolatile AS volatile FROM pg_operator JOIN pg_proc p ON p.oid = oprcode
       WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname IN (${list(OPERATORS.keys())})`,
    );
    expect(new Set(operators.map(({ name }) => name))).toEqual(new Set(OPERATORS.keys()));
    expect(operators.filter(({ volatile }) => volatile === 'v')).toEqual([]);
    const types = await query<{ name: string }>(
      `SELECT typname AS name FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typname IN (${list(TYPES)})`,
    );
    expect(new Set(types.map(({ name }) => name))).toEqual(TYPES);
  });
});
