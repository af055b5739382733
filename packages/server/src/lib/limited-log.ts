import type { Clock } from './clock.js';
import type { Log } from './log.js';

const INTERVAL_MS = 10_000;

interface Cause {
  loggedAt: number;
  suppressed: number;
}

/**
 * Logs at `info`, at most one line for each cause in 10 s; the next line of a cause says how many were suppressed.
 * Causes are a fixed set of words and never text of a client, so what is kept is bounded.
 */
export class LimitedLog<Name extends string> {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #causes = new Map<Name, Cause>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  info(name: Name, fields: Readonly<Record<string, unknown>>, message: string): void {
    const now = this.#clock();
    const cause = this.#causes.get(name);
    if (cause !== undefined && now - cause.loggedAt < INTERVAL_MS) {
      cause.suppressed += 1;
      return;
    }
    const suppressed = cause?.suppressed ?? 0;
    this.#causes.set(name, { loggedAt: now, suppressed: 0 });
    this.#log.info({ ...fields, ...(suppressed === 0 ? {} : { suppressed }) }, message);
  }
}
