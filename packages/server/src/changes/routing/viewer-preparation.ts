import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BatchRouter } from './batch-router.js';
import type { Recipients } from './recipients.js';

/**
 * Has those who come looked up ahead of the next change, which then does not wait for thousands of them. While changes
 * are handed out it stands still: they do the same for whom they find.
 */
export class ViewerPreparation {
  readonly #router: Pick<BatchRouter, 'prepare'>;
  readonly #recipients: Recipients;
  /** By oid. */
  readonly #tables = new Set<number>();
  #isRunning = false;
  #isPaused = false;

  constructor(router: Pick<BatchRouter, 'prepare'>, recipients: Recipients) {
    this.#router = router;
    this.#recipients = recipients;
  }

  /** Somebody has come who may hear of these tables. */
  schedule(oids: Iterable<number>): void {
    for (const oid of oids) this.#tables.add(oid);
    void this.#run();
  }

  /** Stands still while `work` is done. */
  async pauseDuring<T>(work: () => Promise<T>): Promise<T> {
    this.#isPaused = true;
    try {
      return await work();
    } finally {
      this.#isPaused = false;
      void this.#run();
    }
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      // Those who have come in this turn are done together.
      await nextTurn();
      for (const oid of this.#tables) {
        while (!this.#isPaused && (await this.#router.prepare(oid, this.#recipients))) await nextTurn();
        if (this.#isPaused) return;
        this.#tables.delete(oid);
      }
    } catch {
      // Whatever it is, the next change comes upon it as well, and tells.
      this.#tables.clear();
    } finally {
      this.#isRunning = false;
    }
  }
}
