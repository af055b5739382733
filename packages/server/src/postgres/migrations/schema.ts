import type pg from 'pg';

/** The schema of the server's tables and functions. */
const PREFERRED = 'realtime';
/** Its name where another role owns `realtime`, as on hosted Supabase. */
const FALLBACK = 'goforward';

export type SchemaName = typeof PREFERRED | typeof FALLBACK;

/** Neither name needs quotes in SQL. */
const FIND = `
  SELECT n.nspname AS name,
         pg_has_role(n.nspowner, 'USAGE') AS own,
         EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'migrations') AS used
  FROM pg_namespace n
  WHERE n.nspname IN ('${PREFERRED}', '${FALLBACK}')`;

interface Found {
  readonly name: SchemaName;
  readonly own: boolean;
  readonly used: boolean;
}

/**
 * Returns the schema to use: `realtime`, or `goforward` where our login is not a member of the role that owns
 * `realtime`. Once `goforward` holds the server's tables it stays in use, even after `realtime` is dropped:
 * data does not move.
 */
export async function chooseSchema(client: pg.ClientBase): Promise<SchemaName> {
  const { rows } = await client.query<Found>(FIND);
  const preferred = rows.find(({ name }) => name === PREFERRED);
  const fallback = rows.find(({ name }) => name === FALLBACK);
  if (preferred !== undefined && !preferred.own) return FALLBACK;
  return fallback?.own && fallback.used && !preferred?.used ? FALLBACK : PREFERRED;
}

/**
 * Creates the schema when it is missing. CREATE SCHEMA IF NOT EXISTS would require the CREATE privilege even
 * where an administrator has created the schema already.
 */
export async function ensureSchema(client: pg.ClientBase, schema: SchemaName): Promise<void> {
  const { rowCount } = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [schema]);
  if (rowCount === 0) await client.query(`CREATE SCHEMA ${schema}`);
}
