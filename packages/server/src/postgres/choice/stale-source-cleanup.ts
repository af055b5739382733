import type { Log } from '../../lib/log.js';
import type { Database } from '../connection/database.js';
import { OUTBOX_STREAM } from '../triggers/trigger-source.js';
import type { SourceKind } from './source-choice.js';

export interface StaleSourceCleanupOptions {
  readonly database: Database;
  /** The replication slot of the logical source. */
  readonly slot: string;
  /** Drops the triggers of the trigger source. */
  readonly dropTriggers: () => Promise<unknown>;
  readonly log: Log;
}

/**
 * Removes the slot or outbox of the source that is not used: nothing reads it, so it would grow without
 * limit.
 */
export class StaleSourceCleanup {
  readonly #options: StaleSourceCleanupOptions;
  /** The source in use, until everything of the other one is removed. */
  #pendingFor: SourceKind | undefined;

  constructor(options: StaleSourceCleanupOptions) {
    this.#options = options;
  }

  /** Removes what the source that is not `used` left. Logs a failure; `retry` repeats the attempt. */
  async cleanUp(used: SourceKind): Promise<void> {
    this.#pendingFor = used;
    try {
      if (used === 'trigger') await this.#dropSlot();
      else await this.#dropOutbox();
      this.#pendingFor = undefined;
    } catch (error) {
      this.#options.log.warn({ err: error }, 'Stale source clean-up failed; it will be retried');
    }
  }

  /** Repeats a clean-up that failed; does nothing otherwise. */
  async retry(): Promise<void> {
    if (this.#pendingFor !== undefined) await this.cleanUp(this.#pendingFor);
  }

  async #dropSlot(): Promise<void> {
    const { database, slot } = this.#options;
    await database.query(
      'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1',
      [slot],
    );
  }

  async #dropOutbox(): Promise<void> {
    const { database, dropTriggers } = this.#options;
    const { schema } = database;
    await dropTriggers();
    await database.query(`DELETE FROM ${schema}.change_source`);
    await database.query(`DELETE FROM ${schema}.streams WHERE slot = $1`, [OUTBOX_STREAM]);
    for (const table of ['outbox', 'outbox_batches', 'outbox_shapes'])
      await database.query(`DELETE FROM ${schema}.${table}`);
  }
}
