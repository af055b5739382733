import type { Sql } from './sql.js';

/**
 * Errors when another server creates or grants the same at the same moment: duplicate_object,
 * unique_violation, "tuple concurrently updated".
 */
const RACE_CODES: readonly string[] = ['42710', '23505', 'XX000'];

/**
 * Runs a CREATE or GRANT statement; succeeds too where another server has done the same meanwhile. Not within
 * a transaction.
 */
export async function idempotent(sql: Sql, statement: string): Promise<void> {
  try {
    await sql.query(statement);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (!RACE_CODES.includes(code)) throw error;
  }
}
