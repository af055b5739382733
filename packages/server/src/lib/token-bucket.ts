/** A sustained rate and how much of it may come at once. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

/** What sums of fractions may lack of a whole token: whoever waits for as long as told must get it. */
const ROUNDING = 1e-9;

interface Bucket {
  tokens: number;
  /** When `tokens` was true, in ms. */
  at: number;
}

/**
 * Token buckets by key (a user, an address): `take` allows `burst` at once and `perSecond` in the long run.
 * A full bucket carries no information, so full ones are dropped when the map has doubled since it was last
 * swept; memory follows the keys that were active lately.
 */
export class KeyedRateLimiter {
  readonly #rate: Rate;
  readonly #buckets = new Map<string, Bucket>();
  #sweepAt = 1024;

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Takes one token at `now` (ms): 0 when there was one, else the ms until there will be. */
  take(key: string, now: number): number {
    const { perSecond, burst } = this.#rate;
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= this.#sweepAt) this.#sweep(now);
      bucket = { tokens: burst, at: now };
      this.#buckets.set(key, bucket);
    } else {
      bucket.tokens = this.#filled(bucket, now);
      bucket.at = now; // also when the clock was set back: the wait that is answered must hold by the clock as it is now
    }
    if (bucket.tokens >= 1 - ROUNDING) {
      bucket.tokens = Math.max(0, bucket.tokens - 1);
      return 0;
    }
    return Math.ceil(((1 - bucket.tokens) / perSecond) * 1000);
  }

  #filled(bucket: Bucket, now: number): number {
    const elapsed = Math.max(0, now - bucket.at) / 1000;
    return Math.min(this.#rate.burst, bucket.tokens + elapsed * this.#rate.perSecond);
  }

  #sweep(now: number): void {
    for (const [key, bucket] of this.#buckets) {
      if (this.#filled(bucket, now) >= this.#rate.burst) this.#buckets.delete(key);
    }
    this.#sweepAt = Math.max(1024, this.#buckets.size * 2);
  }
}

/** Whole seconds, at least one, for a `retry_after`. */
export function retryAfterSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}
