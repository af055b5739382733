import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MIN_BYTES_PER_SECOND, ReadingRate } from './reading-rate.js';

/** Returns the second at which a reader with these bytes per second is found too slow; undefined: never. */
function slowAt(bytesPerSecond: readonly number[]): number | undefined {
  const rate = new ReadingRate(5_000);
  let taken = 0;
  for (const [second, bytes] of bytesPerSecond.entries()) {
    taken += bytes;
    if (rate.isTooSlow(5_000 + (second + 1) * 1_000, taken)) return second + 1;
  }
  return undefined;
}

const seconds = (count: number, bytes: number) => Array.from({ length: count }, () => bytes);

describe('a reader', () => {
  it('that takes nothing is too slow after ten seconds', () => {
    expect(slowAt(seconds(30, 0))).toBe(10);
  });

  it('that took much at first and then stops is too slow ten seconds later', () => {
    expect(slowAt([5_000_000, ...seconds(30, 0)])).toBe(11);
  });

  it('that takes 20 kB per second is too slow', () => {
    expect(slowAt(seconds(30, 20_000))).toBe(10);
  });

  it('is never too slow at 32 kB per second, however its pages fall', () => {
    const page = 64 * 1024;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: page }), fc.integer({ min: 0, max: 100_000 }), (begun, more) => {
        let taken = begun;
        const pages = seconds(60, MIN_BYTES_PER_SECOND + more).map((bytes) => {
          const before = Math.floor(taken / page);
          taken += bytes;
          return (Math.floor(taken / page) - before) * page;
        });
        expect(slowAt(pages)).toBeUndefined();
      }),
    );
  });

  it('may pause for some seconds when it reads fast otherwise', () => {
    expect(slowAt([...seconds(9, 0), 1_000_000, ...seconds(8, 0), 1_000_000])).toBeUndefined();
  });
});
