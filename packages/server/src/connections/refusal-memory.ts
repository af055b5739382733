import { createHash } from 'node:crypto';
import type { Clock } from '../lib/clock.js';

/** How often the same credential from the same address is refused in a way that a browser can read. */
const READABLE_REFUSALS = 3;
/** Without a refusal for so long, the count starts anew. */
const FORGET_AFTER_MS = 5 * 60_000;
const MAX_ENTRIES = 20_000;

interface Refusals {
  count: number;
  last: number;
}

/**
 * Remembers who was refused how often. A browser cannot read a refused handshake, so the first refusals are
 * accepted and explained; a client that takes the opening for success would then try for ever, so the next
 * ones get the HTTP status, until five minutes have passed without one.
 */
export class RefusalMemory {
  readonly #clock: Clock;
  /** In the order of the last refusal, oldest first. */
  readonly #refusals = new Map<string, Refusals>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#refusals.size;
  }

  /** Counts one more refusal and answers how to give it. */
  refuse(credential: string, address: string): 'readable' | 'status' {
    const now = this.#clock();
    this.#forget(now);
    const key = createHash('sha256').update(`${address}\n${credential}`).digest('base64');
    const count = (this.#refusals.get(key)?.count ?? 0) + 1;
    this.#refusals.delete(key);
    this.#refusals.set(key, { count, last: now });
    return count <= READABLE_REFUSALS ? 'readable' : 'status';
  }

  #forget(now: number): void {
    for (const [key, { last }] of this.#refusals) {
      if (now - last < FORGET_AFTER_MS && this.#refusals.size < MAX_ENTRIES) return;
      this.#refusals.delete(key);
    }
  }
}
