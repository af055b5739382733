import type { Clock } from './clock.js';
import type { Log } from './log.js';

const INTERVAL_MS = 10_000;

interface LoggedCause {
  loggedAt: number;
  suppressed: number;
}

/**
 * Logs at most one line per cause in 10 s. The next line of a cause has the number of suppressed
 * ones. Causes are a fixed set of words, never a client's text, so that memory is bounded.
 */
export class RateLimitedLog<Cause extends string> {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #logged = new Map<Cause, LoggedCause>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  info(cause: Cause, fields: Readonly<Record<string, unknown>>, message: string): void {
    this.#write('info', cause, fields, message);
  }

  error(cause: Cause, fields: Readonly<Record<string, unknown>>, message: string): void {
    this.#write('error', cause, fields, message);
  }

  #write(
    level: 'info' | 'error',
    cause: Cause,
    fields: Readonly<Record<string, unknown>>,
    message: string,
  ): void {
    const now = this.#clock();
    const last = this.#logged.get(cause);
    if (last !== undefined && now - last.loggedAt < INTERVAL_MS) {
      last.suppressed += 1;
      return;
    }
    const suppressed = last?.suppressed ?? 0;
    this.#logged.set(cause, { loggedAt: now, suppressed: 0 });
    this.#log[level]({ ...fields, ...(suppressed === 0 ? {} : { suppressed }) }, message);
  }
}
