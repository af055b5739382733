import type pg from 'pg';
import { MIGRATION_STEPS, type MigrationStep } from './migration-steps.js';
import { chooseSchema, ensureSchema, type SchemaName } from './schema.js';
import { UnusableDatabase } from './unusable-database.js';

/** The key of the advisory lock held while migrating: "realtime" in ASCII. */
const LOCK_KEY = '8243101811408989541';

/**
 * Applies the missing migrations and returns the name of the schema. Everything runs in one transaction under
 * an advisory lock: nodes that start at the same time take turns, a crash leaves nothing half done, and a
 * pooler in transaction mode does no harm. After an error the caller closes the connection, which rolls back.
 * Throws UnusableDatabase when the schema is newer than this server.
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
      `the schema ${schema} belongs to a newer version of this server`,
      `its schema ${schema} belongs to a newer version of this server (migration ${newest}; this version knows ${known}). Start that version or a later one`,
    );
  }
  for (const { number, name, sql } of steps) {
    if (number <= newest) continue;
    await client.query(sql(schema));
    await client.query(`INSERT INTO ${schema}.migrations (number, name) VALUES ($1, $2)`, [number, name]);
  }
}

/** Returns the number of the newest applied step, or 0; creates the table `migrations` when it is missing. */
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
