import type { Sql } from '../../../postgres/sql/sql.js';

/**
 * Whether other transactions see the effects of these: a commit is in the WAL a moment before that. `xids`:
 * the lower 32 bits.
 */
export async function areVisible(sql: Sql, xids: readonly number[]): Promise<boolean> {
  if (xids.length === 0) return true;
  const [row] = await sql.query<{ visible: boolean }>(
    `SELECT bool_and(pg_catalog.pg_visible_in_snapshot((newest.xid - (newest.xid - given.xid) % 4294967296)::text::xid8, newest.snapshot)) AS visible
     FROM (SELECT s AS snapshot, pg_catalog.pg_snapshot_xmax(s)::text::numeric AS xid FROM pg_catalog.pg_current_snapshot() s) newest,
       unnest($1::numeric[]) AS given(xid) WHERE given.xid <= newest.xid`,
    [xids],
  );
  return row?.visible !== false;
}
