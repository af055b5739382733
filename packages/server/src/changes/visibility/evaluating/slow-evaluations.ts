import type { Clock } from '../../../lib/clock.js';

/** An evaluation that takes longer than this is slow, in ms. */
const SLOW_MS = 50;
/** How long an item that made a deadline pass counts as slow, in ms: it doubles each time. */
const FIRST_MS = 1_000;
const LONGEST_MS = 300_000;
/** How long an item counts as slow after another slow evaluation, in ms. */
const SLOW_AGAIN_MS = 2_000;
/** After this time without a slow evaluation an item has a clean record, in ms. */
const FORGET_MS = 600_000;
const MAX_REMEMBERED = 10_000;

interface SlowItem {
  until: number;
  nextMs: number;
  at: number;
}

/**
 * Remembers which viewers and conditions were slow, by the keys of their items, so that live changes do not wait for
 * them again.
 */
export class SlowEvaluations {
  readonly #clock: Clock;
  readonly #items = new Map<string, SlowItem>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  isSlow(key: string): boolean {
    const item = this.#items.get(key);
    return item !== undefined && item.until > this.#clock();
  }

  /** Others have waited for this item until their deadline. */
  overran(key: string): void {
    const item = this.#remember(key);
    item.until = Math.max(item.until, item.at + item.nextMs);
    item.nextMs = Math.min(2 * item.nextMs, LONGEST_MS);
  }

  /** The item was evaluated alone, in so many ms. Returns whether that is slow. */
  evaluated(key: string, ms: number): boolean {
    if (ms <= SLOW_MS) return false;
    const item = this.#remember(key);
    item.until = Math.max(item.until, item.at + SLOW_AGAIN_MS);
    return true;
  }

  #remember(key: string): SlowItem {
    const now = this.#clock();
    const known = this.#items.get(key);
    const item =
      known === undefined || now - known.at > FORGET_MS ? { until: now, nextMs: FIRST_MS, at: now } : known;
    item.at = now;
    // The map is in the order of the last slow evaluations.
    this.#items.delete(key);
    this.#items.set(key, item);
    const [oldest] = this.#items.keys();
    if (this.#items.size > MAX_REMEMBERED && oldest !== undefined) this.#items.delete(oldest);
    return item;
  }
}
