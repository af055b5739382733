import type pg from 'pg';

/** The schema of everything that we keep. */
const OURS = 'realtime';
/** Its name where `realtime` is somebody else's, as on hosted Supabase. */
const INSTEAD = 'goforward';

export type SchemaName = typeof OURS | typeof INSTEAD;

/** Both names need no quotes in SQL. */
const FIND = `
  SELECT n.nspname AS name,
         pg_has_role(n.nspowner, 'USAGE') AS own,
         EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'migrations') AS used
  FROM pg_namespace n
  WHERE n.nspname IN ('${OURS}', '${INSTEAD}')`;

interface Found {
  readonly name: SchemaName;
  readonly own: boolean;
  readonly used: boolean;
}

/**
 * The schema to use: `realtime`, or `goforward` where the owner of `realtime` is no role of our login. Once
 * `goforward` holds our tables it stays in use, even when `realtime` has become free: data does not move.
 */
export async function chooseSchema(client: pg.ClientBase): Promise<SchemaName> {
  const { rows } = await client.query<Found>(FIND);
  const ours = rows.find(({ name }) => name === OURS);
  const instead = rows.find(({ name }) => name === INSTEAD);
  if (ours !== undefined && !ours.own) return INSTEAD;
  return instead?.own && instead.used && !ours?.used ? INSTEAD : OURS;
}

/**
 * Makes the schema when it is not there. CREATE SCHEMA IF NOT EXISTS would ask for the right to create one
 * even where an administrator has made it for us.
 */
export async function ensureSchema(client: pg.ClientBase, schema: SchemaName): Promise<void> {
  const { rowCount } = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [schema]);
  if (rowCount === 0) await client.query(`CREATE SCHEMA ${schema}`);
}
