import { formatLsn, type Lsn, parseLsn } from '../sql/lsn.js';
import type { Sql } from '../sql/sql.js';
import type { SinkMemo } from './change-source.js';

/** The position and change epoch of the reader of a slot, stored in the server's schema. */
export interface StreamState {
  /** The change epoch, the first part of cursors. */
  readonly epoch: string;
  /** How often the server has created the slot. */
  readonly generation: number;
  readonly systemId: string;
  readonly timeline: number;
  readonly acknowledged: Lsn;
  /** The oid of the publication; null where it was not stored. */
  readonly publication: number | null;
  /** The memo of the sink, stored together with the position. */
  readonly memo: SinkMemo;
}

/** What PostgreSQL reports about itself and the slot. */
export interface SlotFacts {
  readonly systemId: string;
  readonly timeline: number;
  /** The slot's `confirmed_flush_lsn`. */
  readonly confirmed: Lsn;
  /** The oid of the publication. */
  readonly publication: number;
  /** Whether the server has just created the slot. */
  readonly isNew: boolean;
}

/** The state with which the stream continues: position and epoch. */
export interface Continuation {
  readonly state: StreamState;
  /** Set when changes after the acknowledged position are lost: the reason. */
  readonly gap?: string;
}

/**
 * Compares the stored state with the slot and decides whether the epoch continues. PostgreSQL does not report
 * a gap: it silently continues a slot that was recreated or advanced by another client. A slot behind the
 * stored position is normal, since PostgreSQL saves its position lazily.
 */
export function continuation(
  kept: StreamState | undefined,
  slot: SlotFacts,
  newEpoch: () => string,
): Continuation {
  const { systemId, timeline, confirmed, isNew, publication } = slot;
  const fresh = (generation: number): StreamState => ({
    epoch: newEpoch(),
    generation,
    systemId,
    timeline,
    acknowledged: confirmed,
    publication,
    memo: {},
  });
  if (kept === undefined) return { state: fresh(1) };
  const gap = gapBetween(kept, slot);
  if (gap === undefined) return { state: { ...kept, publication } };
  return { state: fresh(isNew ? kept.generation + 1 : kept.generation), gap };
}

function gapBetween(kept: StreamState, slot: SlotFacts): string | undefined {
  if (slot.systemId !== kept.systemId) return 'the database cluster was replaced';
  if (slot.isNew) return 'the replication slot was lost';
  if (slot.timeline !== kept.timeline) return 'the database was restored or failed over';
  if (kept.publication !== null && slot.publication !== kept.publication)
    return 'the publication was recreated';
  if (slot.confirmed > kept.acknowledged) return 'the replication slot was advanced by another client';
  return undefined;
}

/** Stores the state of one slot in the table `streams` of the server's schema. */
export class StreamStateStore {
  readonly #sql: Sql;
  readonly #table: string;
  readonly #slot: string;
  /** Identifies this reader; a server that takes over writes its own value. */
  readonly #holder: string;

  constructor(sql: Sql, schema: string, slot: string, holder: string) {
    this.#holder = holder;
    this.#sql = sql;
    this.#table = `${schema}.streams`;
    this.#slot = slot;
  }

  async read(): Promise<StreamState | undefined> {
    const [row] = await this.#sql.query<{
      epoch: string;
      generation: number;
      system_id: string;
      timeline: number;
      acknowledged: string;
      publication: number | null;
      memo: SinkMemo;
    }>(
      `SELECT epoch, generation, system_id, timeline, acknowledged::text, publication, memo FROM ${this.#table} WHERE slot = $1`,
      [this.#slot],
    );
    if (row === undefined) return undefined;
    const { epoch, generation, system_id: systemId, timeline, acknowledged, publication, memo } = row;
    return { epoch, generation, systemId, timeline, acknowledged: parseLsn(acknowledged), publication, memo };
  }

  async write(state: StreamState): Promise<void> {
    await this.#sql.query(
      `INSERT INTO ${this.#table} AS kept (slot, epoch, generation, system_id, timeline, acknowledged, memo, publication, holder)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
       ON CONFLICT (slot) DO UPDATE SET (epoch, generation, system_id, timeline, acknowledged, memo, publication, holder, updated_at) =
         (excluded.epoch, excluded.generation, excluded.system_id, excluded.timeline, excluded.acknowledged, excluded.memo, excluded.publication, excluded.holder, now())`,
      [
        this.#slot,
        state.epoch,
        state.generation,
        state.systemId,
        state.timeline,
        formatLsn(state.acknowledged),
        JSON.stringify(state.memo),
        state.publication,
        this.#holder,
      ],
    );
  }

  /**
   * Advances the acknowledged position. Returns false when the row belongs to another reader or epoch
   * (fencing).
   */
  async acknowledge(state: StreamState, lsn: Lsn, memo: SinkMemo): Promise<boolean> {
    const rows = await this.#sql.query(
      `UPDATE ${this.#table} SET acknowledged = $4, memo = $5, updated_at = now()
       WHERE slot = $1 AND epoch = $2 AND generation = $3 AND acknowledged <= $4 AND holder = $6 RETURNING slot`,
      [this.#slot, state.epoch, state.generation, formatLsn(lsn), JSON.stringify(memo), this.#holder],
    );
    return rows.length > 0;
  }
}
