import type { Sql } from './sql.js';

/** Another server made or granted it at the same moment: duplicate_object, unique_violation, "tuple concurrently updated". */
const RACES: readonly string[] = ['42710', '23505', 'XX000'];

/** Runs a statement that makes or grants something; that somebody else has done so meanwhile is as good. Not within a transaction. */
export async function idempotent(sql: Sql, statement: string): Promise<void> {
  try {
    await sql.query(statement);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (!RACES.includes(code)) throw error;
  }
}
