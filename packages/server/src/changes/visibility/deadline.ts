import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import type { Clock } from '../../lib/clock.js';
import { StaleFacts } from './stale-facts.js';

/** PostgreSQL has not answered in time. */
export class NotDecided extends Error {
  constructor() {
    super('PostgreSQL has not answered before the deadline');
    this.name = 'NotDecided';
  }
}

/** How much earlier PostgreSQL stops by itself, in ms: its answer says what it has decided until then. */
const ANSWER_MS = 20;

/**
 * Bounds how long changes wait for PostgreSQL, in all that is asked because of them. The time begins with the first
 * question, so that work in process neither needs a timer nor counts.
 */
export class Deadline {
  readonly #waitMs: number;
  readonly #clock: Clock;
  #end: number | undefined;
  /** How many viewers and conditions have used up the time of a call alone. */
  slowCount = 0;

  constructor(waitMs: number, clock: Clock) {
    this.#waitMs = waitMs;
    this.#clock = clock;
  }

  /** The `statement_timeout` of evaluations, in ms. */
  get statementMs(): number {
    return this.#waitMs - ANSWER_MS;
  }

  /** Returns a new deadline with `factor` times the waiting time, which begins with its first question. */
  again(factor: number): Deadline {
    return new Deadline(factor * this.#waitMs, this.#clock);
  }

  /** Whether PostgreSQL was asked anything. */
  get hasBegun(): boolean {
    return this.#end !== undefined;
  }

  get isOver(): boolean {
    return this.#end !== undefined && this.#clock() >= this.#end;
  }

  /**
   * Whether work failed because the time was over, or because the catalog has changed, or others do not see transactions
   * yet, and the time to try again is over.
   */
  excuses(error: unknown): boolean {
    if (error instanceof NotDecided) return true;
    if (!(error instanceof StaleFacts)) return false;
    this.#end ??= this.#clock() + this.#waitMs;
    return this.isOver;
  }

  /** Waits for an answer of PostgreSQL. Throws NotDecided when the time is over. */
  async within<T>(answer: Promise<T>): Promise<T> {
    this.#end ??= this.#clock() + this.#waitMs;
    const left = this.#end - this.#clock();
    // After the deadline, what is known already still counts.
    const over =
      left > 0 ? timeout(left) : { promise: yieldToEventLoop().then(notDecided), clear: () => undefined };
    try {
      return await Promise.race([answer, over.promise]);
    } finally {
      over.clear();
    }
  }
}

function timeout(ms: number): { readonly promise: Promise<never>; clear(): void } {
  let timer: NodeJS.Timeout | undefined;
  const promise = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new NotDecided()), Math.ceil(ms));
  });
  return { promise, clear: () => clearTimeout(timer) };
}

function notDecided(): never {
  throw new NotDecided();
}
