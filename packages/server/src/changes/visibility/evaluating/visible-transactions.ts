/**
 * SQL for whether other transactions see the effects of those in the array `xids` (the lower 32 bits of each): a commit is
 * in the WAL a moment before that.
 */
export function areVisibleSql(xids: string): string {
  return `(SELECT coalesce(pg_catalog.bool_and(pg_catalog.pg_visible_in_snapshot(
      (newest.xid - (newest.xid - given.xid) % 4294967296)::text::xid8, newest.snapshot)), true)
    FROM (SELECT s AS snapshot, pg_catalog.pg_snapshot_xmax(s)::text::numeric AS xid FROM pg_catalog.pg_current_snapshot() s) newest,
      pg_catalog.unnest(${xids}) AS given(xid) WHERE given.xid <= newest.xid)`;
}
