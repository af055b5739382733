import { isHandMade } from '../preflight/trigger-checks.js';
import { qualified } from '../sql/identifier.js';
import type { Sql } from '../sql/sql.js';

/** The payload of a NOTIFY by the specification's function. */
interface Notification {
  readonly table: string;
  readonly schema: string;
  readonly event: 'INSERT' | 'UPDATE' | 'DELETE';
  readonly old_record: object | null;
  readonly new_record: object | null;
}

const EVENTS = ['INSERT', 'UPDATE', 'DELETE'];

/**
 * Stores a change that a hand-written trigger notified in the outbox. Returns false for an invalid payload,
 * and for a table that is not enabled or has no such trigger: every role that can connect can NOTIFY.
 */
export async function storeNotification(sql: Sql, schema: string, payload: string): Promise<boolean> {
  const notification = parse(payload);
  if (notification === undefined) return false;
  const [table] = await sql.query<{ oid: number }>(
    `SELECT c.oid FROM ${schema}.tables t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = $2 AND ${isHandMade(schema)}`,
    [notification.schema, notification.table],
  );
  if (table === undefined) return false;
  const type = qualified({ schema: notification.schema, name: notification.table });
  const row = (parameter: string) =>
    `CASE WHEN ${parameter}::json IS NOT NULL THEN json_populate_record(NULL::${type}, ${parameter}::json)::text END`;
  try {
    await sql.query(
      `INSERT INTO ${schema}.outbox (xid, table_oid, kind, old_row, new_row)
       SELECT pg_current_xact_id(), $1, $2::"char", ${row('$3')}, ${row('$4')}`,
      [table.oid, notification.event[0], text(notification.old_record), text(notification.new_record)],
    );
    return true;
  } catch (error) {
    // The record does not match the table: it is forged, or a column has changed since.
    if (error instanceof Error && 'code' in error && /^(22|42)/.test(String(error.code))) return false;
    throw error;
  }
}

function text(record: object | null): string | null {
  return record === null ? null : JSON.stringify(record);
}

function parse(payload: string): Notification | undefined {
  try {
    const value: unknown = JSON.parse(payload);
    return isNotification(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isNotification(value: unknown): value is Notification {
  if (!isRecord(value)) return false;
  const { table, schema, event, old_record: before, new_record: after } = value;
  if (typeof table !== 'string' || typeof schema !== 'string' || !EVENTS.includes(String(event)))
    return false;
  return (
    (event === 'INSERT' ? before === null : isRecord(before)) &&
    (event === 'DELETE' ? after === null : isRecord(after))
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
