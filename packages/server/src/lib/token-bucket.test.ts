import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KeyedRateLimiter, retryAfterSeconds } from './token-bucket.js';

const rates = fc.record({
  perSecond: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.double({ min: 0.1, max: 1_000, noNaN: true })),
  burst: fc.integer({ min: 1, max: 50 }),
});
/** Ms between two calls, by a monotonic clock, which has fractions. */
const gap = fc.oneof(fc.integer({ min: 0, max: 3_000 }), fc.double({ min: 0, max: 3_000, noNaN: true }));
const gaps = fc.array(gap, { minLength: 1, maxLength: 60, size: 'max' });

/** Takes a token of one key after each of these gaps, and returns the waits. */
function takeAfter(limiter: KeyedRateLimiter, gapsMs: number[]): { at: number; wait: number }[] {
  let at = 1_000_000;
  return gapsMs.map((gap) => {
    at += gap;
    return { at, wait: limiter.take('key', at) };
  });
}

describe('a rate limiter', () => {
  it('never allows more than the burst plus the rate, in any window', () => {
    fc.assert(
      fc.property(rates, gaps, (rate, gapsMs) => {
        const taken = takeAfter(new KeyedRateLimiter(rate), gapsMs).filter(({ wait }) => wait === 0);
        const excess = taken.flatMap((first, i) =>
          taken.slice(i).map(({ at }, j) => j + 1 - rate.burst - (rate.perSecond * (at - first.at)) / 1000),
        );
        expect(Math.max(0, ...excess)).toBeLessThan(1e-6);
      }),
    );
  });

  it('allows the whole burst at once for a new key', () => {
    const limiter = new KeyedRateLimiter({ perSecond: 1, burst: 3 });
    expect([1, 2, 3, 4].map(() => limiter.take('a', 0))).toEqual([0, 0, 0, 1000]);
    expect(limiter.take('b', 0)).toBe(0);
  });

  it('has a token after the wait that it returned', () => {
    fc.assert(
      fc.property(rates, gaps, (rate, gapsMs) => {
        const limiter = new KeyedRateLimiter(rate);
        let now = 0;
        for (const gap of gapsMs.slice(0, 20)) {
          now += gap;
          for (let n = 0; n <= rate.burst; n++) {
            const wait = limiter.take('key', now);
            if (wait === 0) continue;
            now += wait;
            expect(limiter.take('key', now)).toBe(0);
          }
        }
      }),
    );
  });

  it('returns the same with and without a sweep in between', () => {
    const others = fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 60, size: 'max' });
    fc.assert(
      fc.property(rates, gaps, others, (rate, gapsMs, crowds) => {
        const alone = takeAfter(new KeyedRateLimiter(rate), gapsMs);
        const crowded = new KeyedRateLimiter(rate);
        let other = 0;
        const among = alone.map(({ at }, i) => {
          for (let n = 0; n < (crowds[i] ?? 0); n++) crowded.take(`other ${other++}`, at);
          return { at, wait: crowded.take('key', at) };
        });
        expect(among).toEqual(alone);
      }),
      { numRuns: 30 },
    );
  });

  it('keeps memory for recent keys only', () => {
    const limiter = new KeyedRateLimiter({ perSecond: 1_000, burst: 10 });
    let most = 0;
    for (let n = 0; n < 100_000; n++) {
      limiter.take(`visitor ${n}`, n);
      most = Math.max(most, limiter.size);
    }
    expect(most).toBeLessThanOrEqual(1_024);
  });

  it('keeps every key that is still limited', () => {
    const limiter = new KeyedRateLimiter({ perSecond: 0.001, burst: 1 });
    for (let n = 0; n < 5_000; n++) limiter.take(`visitor ${n}`, n);
    for (let n = 0; n < 5_000; n++) expect(limiter.take(`visitor ${n}`, 5_000)).toBeGreaterThan(0);
  });
});

it.each([
  [0, 1],
  [1, 1],
  [1_000, 1],
  [1_001, 2],
  [29_500, 30],
])('a wait of %d ms is a retry_after of %d s', (ms, seconds) => {
  expect(retryAfterSeconds(ms)).toBe(seconds);
});
