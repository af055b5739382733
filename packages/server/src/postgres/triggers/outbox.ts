import type { WalRelation } from '../source/change-source.js';
import { fingerprintSql } from '../sql/catalog-fingerprint.js';
import type { Sql } from '../sql/sql.js';
import type { RowShape } from './row-shape.js';

/** Transactions that were read together: those that one snapshot sees and the previous snapshot does not. */
export interface OutboxBatch {
  readonly start: bigint;
  readonly end: bigint;
  readonly seenBefore: string;
  readonly seen: string;
  /** The shapes of the tables, by oid. */
  readonly shapes: Readonly<Record<string, TableShape>>;
  /** Microseconds since 1970-01-01 UTC. */
  readonly readAt: bigint;
}

/** A table at the time when a batch was read. A partition has the names and the oid of its root table. */
export interface TableShape extends Pick<WalRelation, 'oid' | 'schema' | 'name'> {
  /** The fingerprint of all that the privileges and policies of the table depend on. */
  readonly version: string;
  readonly before: RowShape | null;
  readonly now: RowShape;
}

export interface OutboxRow {
  /** The position of its transaction. */
  readonly position: string;
  readonly xid: string;
  readonly tableOid: number;
  readonly kind: 'I' | 'U' | 'D' | 'T' | 'M';
  readonly oldRow: string | null;
  readonly newRow: string | null;
}

/** How many rows, and about how many bytes, are fetched together. */
const PAGE_ROWS = 1_000;
const PAGE_BYTES = 4 * 1024 * 1024;

/** SQL for the size of a row in bytes, which positions count. */
const SIZE = '40 + coalesce(octet_length(old_row), 0) + coalesce(octet_length(new_row), 0)';

/**
 * Reads the table that triggers write to, in commit order. Transactions that a snapshot sees and the previous
 * one does not have committed between them. So reading needs no sequence number of writers, and a transaction
 * that stays open delays no other. Within a batch transactions are ordered by their last write: a transaction
 * that had to wait for another's row lock comes after it. Positions count bytes, so that the resume window
 * can be measured in them.
 */
export class Outbox {
  readonly #sql: Sql;
  readonly #schema: string;

  constructor(sql: Sql, schema: string) {
    this.#sql = sql;
    this.#schema = schema;
  }

  /**
   * Returns the stored batches in order. The last one always exists: it has the snapshot to continue from.
   */
  async batches(): Promise<OutboxBatch[]> {
    const rows = await this.#sql.query<
      Omit<OutboxBatch, 'start' | 'end' | 'readAt'> & Record<'start' | 'end' | 'readAt', string>
    >(
      `SELECT start_position::text AS start, end_position::text AS end, seen_before::text AS "seenBefore", seen::text, shapes,
              (extract(epoch FROM read_at) * 1000000)::bigint::text AS "readAt"
       FROM ${this.#schema}.outbox_batches ORDER BY end_position`,
    );
    return rows.map((row) => ({
      ...row,
      start: BigInt(row.start),
      end: BigInt(row.end),
      readAt: BigInt(row.readAt),
    }));
  }

  /** Empties the outbox. Transactions that commit from now on come after `position`. */
  async clear(position: bigint): Promise<void> {
    await this.#sql.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    try {
      const [row] = await this.#sql.query<{ seen: string }>('SELECT pg_current_snapshot()::text AS seen');
      const seen = row?.seen ?? '';
      await this.#sql.query(`DELETE FROM ${this.#schema}.outbox`);
      await this.#sql.query(`DELETE FROM ${this.#schema}.outbox_batches`);
      await this.#write({ start: position, end: position, seenBefore: seen, seen, shapes: {} });
      await this.#sql.query('COMMIT');
    } catch (error) {
      await this.#sql.query('ROLLBACK').catch(() => undefined);
      throw error;
    }
  }

  /**
   * Reads what has committed since the snapshot `seenBefore` as a batch and stores the batch before it is
   * delivered. When nothing has committed it returns the current snapshot, unless `mustMove` asks for a batch
   * that only advances the position.
   */
  async take(seenBefore: string, start: bigint, mustMove: boolean): Promise<OutboxBatch | string> {
    await this.#sql.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    try {
      const [found] = await this.#sql.query<{ seen: string; bytes: string; oids: number[] | null }>(
        `SELECT pg_current_snapshot()::text AS seen, coalesce(sum(${SIZE}), 0)::text AS bytes,
                array_agg(DISTINCT table_oid::int8::float8) AS oids
         FROM ${this.#schema}.outbox WHERE ${NOT_SEEN}`,
        [seenBefore],
      );
      if (found === undefined) throw new Error('PostgreSQL returned no snapshot');
      const { seen, bytes, oids } = found;
      if (oids === null && !mustMove) {
        await this.#sql.query('COMMIT');
        return seen;
      }
      const shapes = await tableShapes(this.#sql, this.#schema, oids ?? []);
      const end = start + (oids === null ? 1n : BigInt(bytes));
      const batch = { start, end, seenBefore, seen, shapes };
      const readAt = await this.#write(batch);
      await this.#sql.query('COMMIT');
      return { ...batch, readAt };
    } catch (error) {
      await this.#sql.query('ROLLBACK').catch(() => undefined);
      throw error;
    }
  }

  /** Yields the rows of a batch in pages. Reading a batch again gives the same rows. */
  async *rows({ seenBefore, seen, start, end }: OutboxBatch): AsyncGenerator<OutboxRow[]> {
    const select = `
      SELECT ($3::int8 - 1 + sum(size) OVER (ORDER BY last))::int8::text AS position, xid::text,
             table_oid::int8::float8 AS "tableOid", kind::text, old_row AS "oldRow", new_row AS "newRow"
      FROM (SELECT *, max(seq) OVER (PARTITION BY xid) AS last, ${SIZE} AS size FROM ${this.#schema}.outbox
            WHERE ${NOT_SEEN} AND pg_visible_in_snapshot(xid, $2::pg_snapshot)) batch
      ORDER BY last, seq`;
    const values = [seenBefore, seen, String(start)];
    if (end - start <= PAGE_BYTES) {
      yield await this.#sql.query<OutboxRow>(select, values);
      return;
    }
    // WITH HOLD: PostgreSQL materializes the rows, so that no snapshot is held while delivery waits for slow
    // members.
    const [rows] = await this.#sql.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM (${select}) counted`,
      values,
    );
    const average = Number(end - start) / (rows?.count ?? 1);
    const page = Math.max(1, Math.min(PAGE_ROWS, Math.floor(PAGE_BYTES / average)));
    const literals = [`'${seenBefore}'`, `'${seen}'`, `'${start}'`];
    const text = select.replace(/\$([123])/g, (_, n: string) => literals[Number(n) - 1] ?? '');
    await this.#sql.query(`DECLARE "gf$outbox" NO SCROLL CURSOR WITH HOLD FOR ${text}`);
    for (;;) {
      const fetched = await this.#sql.query<OutboxRow>(`FETCH ${page} FROM "gf$outbox"`);
      if (fetched.length > 0) yield fetched;
      if (fetched.length < page) break;
    }
    await this.#sql.query('CLOSE "gf$outbox"');
  }

  /** Deletes the batches up to a position, and their rows. Keeps the last batch. */
  async prune(position: bigint): Promise<void> {
    await this.#sql.query(
      `WITH gone AS (
         DELETE FROM ${this.#schema}.outbox_batches WHERE end_position <= $1::int8
           AND end_position < (SELECT max(end_position) FROM ${this.#schema}.outbox_batches))
       DELETE FROM ${this.#schema}.outbox WHERE pg_visible_in_snapshot(xid,
         (SELECT seen FROM ${this.#schema}.outbox_batches WHERE end_position <= $1::int8 ORDER BY end_position DESC LIMIT 1))
       AND xid < (SELECT pg_snapshot_xmax(seen) FROM ${this.#schema}.outbox_batches WHERE end_position <= $1::int8 ORDER BY end_position DESC LIMIT 1)`,
      [String(position)],
    );
  }

  async #write(batch: Omit<OutboxBatch, 'readAt'>): Promise<bigint> {
    const { start, end, seenBefore, seen, shapes } = batch;
    const [row] = await this.#sql.query<{ read: string }>(
      `INSERT INTO ${this.#schema}.outbox_batches (start_position, end_position, seen_before, seen, shapes) VALUES ($1, $2, $3, $4, $5)
       RETURNING (extract(epoch FROM read_at) * 1000000)::bigint::text AS read`,
      [String(start), String(end), seenBefore, seen, JSON.stringify(shapes)],
    );
    return BigInt(row?.read ?? 0);
  }
}

/** Returns the current and the previous shapes of tables, and stores the current ones as the previous. */
export async function tableShapes(
  sql: Sql,
  schema: string,
  oids: readonly number[],
): Promise<Record<string, TableShape>> {
  const rows = await sql.query<TableShape & { table: number }>(SHAPES(schema), [oids]);
  return Object.fromEntries(rows.map(({ table, ...shape }) => [table, shape]));
}

/**
 * SQL for rows that the snapshot $1 does not see. Two index lookups: transactions that began after it, and
 * then running ones.
 */
const NOT_SEEN = `(xid >= pg_snapshot_xmax($1::pg_snapshot) OR xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot))))`;

/** Reads the shapes of tables. A dropped table is missing in the result, and its stored shape stays. */
const SHAPES = (schema: string) => `
  WITH seen AS (
    SELECT c.oid, coalesce(pg_partition_root(c.oid)::oid, c.oid) AS root, json_build_object(
      'highest', (SELECT coalesce(max(a.attnum), 0) FROM pg_attribute a WHERE a.attrelid = c.oid),
      'columns', (SELECT coalesce(json_agg(json_build_object('number', a.attnum, 'name', a.attname,
          'typeOid', a.atttypid::int8, 'typeModifier', a.atttypmod, 'isGenerated', a.attgenerated <> '') ORDER BY a.attnum), '[]')
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)) AS shape
    FROM pg_class c WHERE c.oid = ANY ($1::oid[])
  ), kept AS (
    SELECT table_oid, shape FROM ${schema}.outbox_shapes WHERE table_oid = ANY ($1::oid[])
  ), written AS (
    INSERT INTO ${schema}.outbox_shapes SELECT oid, shape FROM seen
    ON CONFLICT (table_oid) DO UPDATE SET shape = excluded.shape WHERE outbox_shapes.shape::text <> excluded.shape::text
  )
  SELECT s.oid::int8::float8 AS table, s.root::int8::float8 AS oid, n.nspname::text AS schema, r.relname::text AS name,
         ${fingerprintSql('s.root')} AS version, k.shape AS before, s.shape AS now
  FROM seen s JOIN pg_class r ON r.oid = s.root JOIN pg_namespace n ON n.oid = r.relnamespace
  LEFT JOIN kept k ON k.table_oid = s.oid`;
