/** A sustained rate per second, and a burst size. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

/** Tolerance for rounding: after waiting for exactly the returned time, a key must get its token. */
const ROUNDING = 1e-9;

interface Bucket {
  tokens: number;
  /** The time at which `tokens` was computed, in ms of a Clock. */
  at: number;
}

/**
 * Limits rates with one token bucket per key (a user, an address): up to `burst` at once, `perSecond`
 * sustained. A full bucket equals no bucket, so full ones are deleted whenever the map has doubled since the
 * last sweep. Memory is bounded by the recently active keys.
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

  /** Takes one token at `now`, in ms of a Clock. Returns 0 if there was one, else the ms until there will be. */
  take(key: string, now: number): number {
    const { perSecond, burst } = this.#rate;
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= this.#sweepAt) this.#sweep(now);
      bucket = { tokens: burst, at: now };
      this.#buckets.set(key, bucket);
    } else {
      bucket.tokens = this.#filled(bucket, now);
      bucket.at = now;
    }
    if (bucket.tokens >= 1 - ROUNDING) {
      bucket.tokens = Math.max(0, bucket.tokens - 1);
      return 0;
    }
    return Math.ceil(((1 - bucket.tokens) / perSecond) * 1000);
  }

  #filled(bucket: Bucket, now: number): number {
    const elapsedSeconds = (now - bucket.at) / 1000;
    return Math.min(this.#rate.burst, bucket.tokens + elapsedSeconds * this.#rate.perSecond);
  }

  #sweep(now: number): void {
    for (const [key, bucket] of this.#buckets) {
      if (this.#filled(bucket, now) >= this.#rate.burst) this.#buckets.delete(key);
    }
    this.#sweepAt = Math.max(1024, this.#buckets.size * 2);
  }
}

/** Converts ms to the whole seconds, at least one, of a `retry_after`. */
export function retryAfterSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}
