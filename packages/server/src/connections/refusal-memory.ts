import { createHash } from 'node:crypto';
import type { Clock } from '../lib/clock.js';

/** Number of refusals per credential and address that a browser can read. */
const READABLE_REFUSALS = 3;
/** Time without a refusal after which the count restarts, in ms. */
const FORGET_AFTER_MS = 5 * 60_000;
const MAX_ENTRIES = 20_000;

interface Refusals {
  count: number;
  last: number;
}

/**
 * Counts refused handshakes per credential and address. A browser cannot read a refused handshake, so the
 * first ones are accepted, explained and closed. A client that takes the opened socket for success would
 * retry forever, so further ones get the HTTP status, until five minutes have passed without a refusal.
 */
export class RefusalMemory {
  readonly #clock: Clock;
  /** Ordered by the last refusal, oldest first. */
  readonly #refusals = new Map<string, Refusals>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#refusals.size;
  }

  /** Counts a refusal and returns how to send it. */
  refuse(credential: string, address: string): 'readable' | 'status' {
    const now = this.#clock();
    this.#expire(now);
    const key = createHash('sha256').update(`${address}\n${credential}`).digest('base64');
    const count = (this.#refusals.get(key)?.count ?? 0) + 1;
    this.#refusals.delete(key);
    this.#refusals.set(key, { count, last: now });
    return count <= READABLE_REFUSALS ? 'readable' : 'status';
  }

  #expire(now: number): void {
    for (const [key, { last }] of this.#refusals) {
      if (now - last < FORGET_AFTER_MS && this.#refusals.size < MAX_ENTRIES) return;
      this.#refusals.delete(key);
    }
  }
}
