import { formatLsn, type Lsn, parseLsn } from '../sql/lsn.js';
import type { Sql } from '../sql/sql.js';
import type { SinkMemo } from './change-source.js';

/** How far the reader of a slot has come, and of which history; kept in our schema. */
export interface StreamState {
  /** What cursors begin with. */
  readonly epoch: string;
  /** How often we have made the slot. */
  readonly generation: number;
  readonly systemId: string;
  readonly timeline: number;
  readonly acknowledged: Lsn;
  /** The publication that was read through, by oid; null where that was not kept. */
  readonly publication: number | null;
  /** What the sink wants kept with the position. */
  readonly memo: SinkMemo;
}

/** What PostgreSQL says of itself and of the slot. */
export interface SlotFacts {
  readonly systemId: string;
  readonly timeline: number;
  /** What the slot has confirmed. */
  readonly confirmed: Lsn;
  /** The oid of the publication. */
  readonly publication: number;
  /** We made it just now. */
  readonly isNew: boolean;
}

/** From where the stream goes on, as which history, and what was lost. */
export interface Continuation {
  readonly state: StreamState;
  /** Set when changes since the last acknowledged one are lost. */
  readonly gap?: string;
}

/**
 * Compares what was kept with what is there. PostgreSQL reports no gap: a slot that was made anew or moved on by
 * somebody else goes on from where it is. One that is behind is normal: PostgreSQL saves its position lazily.
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
  if (slot.systemId !== kept.systemId) return 'the database is another one';
  if (slot.isNew) return 'the replication slot was lost';
  if (slot.timeline !== kept.timeline) return 'the database was restored or failed over';
  if (kept.publication !== null && slot.publication !== kept.publication)
    return 'the publication was made anew';
  if (slot.confirmed > kept.acknowledged) return 'the replication slot was moved on by somebody else';
  return undefined;
}

/** Keeps the state of one slot in `streams` of our schema. */
export class StreamStateStore {
  readonly #sql: Sql;
  readonly #table: string;
  readonly #slot: string;
  /** Names this reader: another one that takes over writes its own. */
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

  /** Moves the acknowledged position on; false when the row is another reader's, or of another history. */
  async acknowledge(state: StreamState, lsn: Lsn, memo: SinkMemo): Promise<boolean> {
    const rows = await this.#sql.query(
      `UPDATE ${this.#table} SET acknowledged = $4, memo = $5, updated_at = now()
       WHERE slot = $1 AND epoch = $2 AND generation = $3 AND acknowledged <= $4 AND holder = $6 RETURNING slot`,
      [this.#slot, state.epoch, state.generation, formatLsn(lsn), JSON.stringify(memo), this.#holder],
    );
    return rows.length > 0;
  }
}
