import { idempotent } from '../sql/idempotent.js';
import { quoted } from '../sql/identifier.js';
import { type Lsn, parseLsn } from '../sql/lsn.js';
import type { Sql } from '../sql/sql.js';
import type { ReplicationConnection } from './replication-connection.js';

/**
 * Creates the publication when it is missing and returns its oid. Not within a transaction. The server never
 * drops or recreates a publication: changes created while it is absent cannot be read.
 */
export async function ensurePublication(sql: Sql, name: string): Promise<number> {
  const oid = await publicationOid(sql, name);
  if (oid !== undefined) return oid;
  await idempotent(
    sql,
    `CREATE PUBLICATION ${quoted(name)} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)`,
  );
  const created = await publicationOid(sql, name);
  if (created === undefined) throw new Error('the publication was not found after its creation');
  return created;
}

/**
 * Returns an SQL condition: whether all changes of the table `c` are published, with all rows and columns.
 */
export function isPublishedCondition(publication: string): string {
  return `EXISTS (SELECT FROM pg_catalog.pg_publication p
    WHERE p.pubname = '${publication.replaceAll("'", "''")}' AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate
      AND (p.puballtables OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
        WHERE r.prpubid = p.oid AND r.prrelid = c.oid AND to_jsonb(r) ->> 'prqual' IS NULL AND to_jsonb(r) ->> 'prattrs' IS NULL)))`;
}

async function publicationOid(sql: Sql, name: string): Promise<number | undefined> {
  const [row] = await sql.query<{ oid: number }>('SELECT oid FROM pg_publication WHERE pubname = $1', [name]);
  return row?.oid;
}

/**
 * Creates the slot when it is missing. Recreates it when it has lost WAL or `mustRecreate` is set. Returns
 * its confirmed position and whether it is new.
 */
export async function ensureSlot(
  sql: Sql,
  connection: ReplicationConnection,
  name: string,
  mustRecreate: boolean,
): Promise<{ readonly confirmed: Lsn; readonly isNew: boolean }> {
  const [slot] = await sql.query<{ confirmed: string; wal_status: string | null }>(
    `SELECT confirmed_flush_lsn::text AS confirmed, wal_status FROM pg_replication_slots WHERE slot_name = $1`,
    [name],
  );
  if (slot !== undefined && slot.wal_status !== 'lost' && !mustRecreate) {
    return { confirmed: parseLsn(slot.confirmed), isNew: false };
  }
  if (slot !== undefined) await connection.query(`DROP_REPLICATION_SLOT ${quoted(name)}`);
  const [created] = await connection.query<{ consistent_point: string }>(
    `CREATE_REPLICATION_SLOT ${quoted(name)} LOGICAL pgoutput NOEXPORT_SNAPSHOT`,
  );
  if (created === undefined) throw new Error('CREATE_REPLICATION_SLOT returned no row');
  return { confirmed: parseLsn(created.consistent_point), isNew: true };
}
