import { setTimeout as delay } from 'node:timers/promises';

/** The longest pause after a page, in ms: most of a page that takes longer is waiting for PostgreSQL. */
const LONGEST_PAUSE_MS = 75;

/** Runs one step of work after the other, and waits for `wakeUp` when there is none. */
export class ReplayWorker {
  readonly #step: () => Promise<boolean>;
  readonly #signal: AbortSignal;
  #running: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  /** Set when `wakeUp` was called since the last step began. */
  #isWoken = false;

  /** `step` returns false if there is nothing to do. */
  constructor(step: () => Promise<boolean>, signal: AbortSignal) {
    this.#step = step;
    this.#signal = signal;
  }

  wakeUp(): void {
    this.#isWoken = true;
    this.#running ??= this.#run();
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Waits for the current step after the signal has aborted. */
  async stop(): Promise<void> {
    this.#wake?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#signal.aborted) {
      const started = performance.now();
      this.#isWoken = false;
      const isBusy = await this.#step();
      // Live changes come first: replays take a quarter of the time, in short pages.
      const pauseMs = Math.min(3 * (performance.now() - started), LONGEST_PAUSE_MS);
      if (isBusy) await delay(pauseMs, undefined, { signal: this.#signal }).catch(() => undefined);
      else if (!this.#isWoken && !this.#signal.aborted)
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}
