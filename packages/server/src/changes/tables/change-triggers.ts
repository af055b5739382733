import { hasOurTriggers, isHandMade } from '../../postgres/preflight/trigger-checks.js';
import { qualified, quoted } from '../../postgres/sql/identifier.js';
import type { Sql } from '../../postgres/sql/sql.js';

interface Names {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
}

export type TriggerState = 'created' | 'present' | 'custom';

/** The longest name in PostgreSQL, in bytes. */
const NAME_BYTES = 63;

/** Creates the triggers that record a table's changes in the outbox, unless the table has a hand-made one. */
export async function createTriggers(sql: Sql, ownSchema: string, table: Names): Promise<TriggerState> {
  const [found] = await sql.query<{ is_hand_made: boolean; complete: boolean }>(
    `SELECT ${isHandMade(ownSchema)} AS is_hand_made, ${hasOurTriggers(ownSchema)} AS complete
     FROM pg_class c WHERE c.oid = $1`,
    [table.oid],
  );
  if (found === undefined) return 'present';
  if (found.is_hand_made) return 'custom';
  if (found.complete) return 'present';
  await dropTriggers(sql, ownSchema, table);
  const name = qualified(table);
  for (const [suffix, events] of [
    ['_changes_trigger', 'INSERT OR UPDATE OR DELETE ON ? FOR EACH ROW'],
    ['_truncate_trigger', 'TRUNCATE ON ? FOR EACH STATEMENT'],
  ] as const) {
    const trigger = quoted(triggerName(table.name, suffix));
    await sql.query(
      `CREATE TRIGGER ${trigger} AFTER ${events.replace('?', () => name)} EXECUTE FUNCTION ${ownSchema}.notify_table_changes()`,
    );
    // Rows that logical replication applies are changes too.
    await sql.query(`ALTER TABLE ${name} ENABLE ALWAYS TRIGGER ${trigger}`);
  }
  return 'created';
}

/** Drops our triggers; returns false if there are none. */
export async function dropTriggers(sql: Sql, ownSchema: string, table: Names): Promise<boolean> {
  const rows = await sql.query<{ name: string }>(`SELECT t.tgname::text AS name ${ours(ownSchema)}`, [
    table.oid,
  ]);
  for (const { name } of rows) await sql.query(`DROP TRIGGER ${quoted(name)} ON ${qualified(table)}`);
  return rows.length > 0;
}

/** `<table>_changes_trigger`, cut to the length of a PostgreSQL name. */
function triggerName(table: string, suffix: string): string {
  let end = table.length;
  while (Buffer.byteLength(table.slice(0, end)) > NAME_BYTES - suffix.length) end -= 1;
  return table.slice(0, end) + suffix;
}

/** Our triggers of the table $1. */
const ours = (schema: string) => `FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
  WHERE t.tgrelid = $1 AND t.tgparentid = 0 AND p.proname = 'notify_table_changes' AND p.pronamespace = '${schema}'::regnamespace`;
