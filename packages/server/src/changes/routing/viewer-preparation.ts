import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import type { Deadline } from '../visibility/deadline.js';
import type { BatchRouter } from './batch-router.js';
import type { Recipients } from './recipients.js';

/**
 * Evaluates the policy parameters of new members ahead of the next change, so that it does not wait for
 * thousands of them. Paused while a batch is routed: routing evaluates the parameters of remaining members
 * itself.
 */
export class ViewerPreparation {
  readonly #router: Pick<BatchRouter, 'prepare'>;
  readonly #recipients: Recipients;
  readonly #newDeadline: () => Deadline;
  /** The oids of tables with new members. */
  readonly #tables = new Set<number>();
  #isRunning = false;
  #isPaused = false;

  /** `newDeadline`: bounds each step, so that the next batch finds the connection free. */
  constructor(router: Pick<BatchRouter, 'prepare'>, recipients: Recipients, newDeadline: () => Deadline) {
    this.#router = router;
    this.#recipients = recipients;
    this.#newDeadline = newDeadline;
  }

  /** Schedules the preparation of new members that may receive changes of these tables. */
  schedule(oids: Iterable<number>): void {
    for (const oid of oids) this.#tables.add(oid);
    void this.#run();
  }

  /** Pauses the preparation while `work` runs. */
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
      // Members that join in the same tick are prepared together.
      await yieldToEventLoop();
      for (const oid of this.#tables) {
        while (!this.#isPaused && (await this.#router.prepare(oid, this.#recipients, this.#newDeadline())))
          await yieldToEventLoop();
        if (this.#isPaused) return;
        this.#tables.delete(oid);
      }
    } catch {
      // The next change runs into the same error and reports it.
      this.#tables.clear();
    } finally {
      this.#isRunning = false;
    }
  }
}
