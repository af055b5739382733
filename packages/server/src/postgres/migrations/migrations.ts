import type pg from 'pg';
import { MIGRATION_STEPS, type MigrationStep } from './migration-steps.js';
import { chooseSchema, ensureSchema, type SchemaName } from './schema.js';
import { UnusableDatabase } from './unusable-database.js';

/** The key of the advisory lock that whoever changes the schema holds: "realtime" in ASCII. */
const LOCK_KEY = '8243101811408989541';

/**
 * Brings the schema to the newest step and answers its name. All in one transaction under an advisory lock:
 * nodes that start at once take turns, a crash leaves nothing half done, and a pooler that hands out
 * connections by transaction does no harm. After an error the connection is to be closed, which rolls back.
 * Throws UnusableDatabase when the schema is newer than we are.
 */
export async function migrate(
  client: pg.ClientBase,
  steps: readonly MigrationStep[] = MIGRATION_STEPS,
): Promise<SchemaName> {
  await client.query('BEGIN');
  await client.query(`SELECT pg_advisory_xact_lock(${LOCK_KEY})`);
  const schema = await chooseSchema(client);
  await ensureSchema(client, schema);
  await applyMissing(client, schema, steps);
  await client.query('COMMIT');
  return schema;
}

async function applyMissing(
  client: pg.ClientBase,
  schema: SchemaName,
  steps: readonly MigrationStep[],
): Promise<void> {
  const newest = await newestApplied(client, schema);
  const known = steps.at(-1)?.number ?? 0;
  if (newest > known) {
    throw new UnusableDatabase(
      `the schema ${schema} is of a newer version of this server`,
      `its schema ${schema} is of a newer version of this server (migration ${newest}, and this version knows ${known}). Start that version or a later one`,
    );
  }
  for (const { number, name, sql } of steps) {
    if (number <= newest) continue;
    await client.query(sql(schema));
    await client.query(`INSERT INTO ${schema}.migrations (number, name) VALUES ($1, $2)`, [number, name]);
  }
}

/** The number of the newest step that was applied, 0 when none was: then the table of steps is made. */
async function newestApplied(client: pg.ClientBase, schema: SchemaName): Promise<number> {
  const table = await client.query(
    `SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'migrations'`,
    [schema],
  );
  if (table.rowCount === 0) {
    await client.query(`
      REVOKE ALL ON SCHEMA ${schema} FROM PUBLIC;
      CREATE TABLE ${schema}.migrations (
        number integer PRIMARY KEY,
        name text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
      );
      REVOKE ALL ON ${schema}.migrations FROM PUBLIC;`);
    return 0;
  }
  const { rows } = await client.query<{ newest: number }>(
    `SELECT coalesce(max(number), 0) AS newest FROM ${schema}.migrations`,
  );
  return rows[0]?.newest ?? 0;
}
