import type { Log } from '../../lib/log.js';
import type { Database } from '../connection/database.js';
import { OUTBOX_STREAM } from '../triggers/trigger-source.js';
import type { SourceKind } from './source-choice.js';

export interface StaleSourceCleanupOptions {
  readonly database: Database;
  /** The replication slot of the one source. */
  readonly slot: string;
  /** Takes the triggers of the other away. */
  readonly dropTriggers: () => Promise<unknown>;
  readonly log: Log;
}

/** Takes away what the source that is not used has left behind: nobody would read it, and it would grow. */
export class StaleSourceCleanup {
  readonly #options: StaleSourceCleanupOptions;
  /** The source that is used, until everything of the other is gone. */
  #used: SourceKind | undefined;

  constructor(options: StaleSourceCleanupOptions) {
    this.#options = options;
  }

  /** Of the rival of this source. What fails is tried again with `retry`. */
  async cleanUp(used: SourceKind): Promise<void> {
    this.#used = used;
    try {
      if (used === 'trigger') await this.#dropSlot();
      else await this.#dropOutbox();
      this.#used = undefined;
    } catch (error) {
      this.#options.log.warn({ err: error }, 'What another source of row changes left is still there');
    }
  }

  async retry(): Promise<void> {
    if (this.#used !== undefined) await this.cleanUp(this.#used);
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
