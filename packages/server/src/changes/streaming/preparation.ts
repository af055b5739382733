import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Seats } from './seats.js';
import type { SliceRouter } from './slice-router.js';

/**
 * Has those who come looked up ahead of the next change, which then does not wait for thousands of them. While changes
 * are handed out it stands still: they do the same for whom they find.
 */
export class Preparation {
  readonly #router: Pick<SliceRouter, 'prepare'>;
  readonly #seats: Seats;
  /** By oid. */
  readonly #tables = new Set<number>();
  #isRunning = false;
  #isHeld = false;

  constructor(router: Pick<SliceRouter, 'prepare'>, seats: Seats) {
    this.#router = router;
    this.#seats = seats;
  }

  /** Somebody has come who may hear of these tables. */
  for(oids: Iterable<number>): void {
    for (const oid of oids) this.#tables.add(oid);
    void this.#run();
  }

  /** Stands still while `work` is done. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    this.#isHeld = true;
    try {
      return await work();
    } finally {
      this.#isHeld = false;
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
        while (!this.#isHeld && (await this.#router.prepare(oid, this.#seats))) await nextTurn();
        if (this.#isHeld) return;
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
