import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReadingPace } from './reading-pace.js';

/** Returns how far a peer is behind after each second, in ms. */
function behind(bytesBySecond: readonly number[]): number[] {
  const pace = new ReadingPace(1_000, 500);
  let drained = 500;
  return bytesBySecond.map((bytes, second) => {
    drained += bytes;
    return pace.behindMs(2_000 + second * 1_000, drained);
  });
}

describe('a peer for whom bytes wait', () => {
  it('falls behind by the time that passes while it reads nothing, and hardly less by a byte a second', () => {
    expect(behind([0, 0, 0])).toEqual([1_000, 2_000, 3_000]);
    expect(behind(Array<number>(30).fill(1)).at(-1)).toBeGreaterThan(29_990);
  });

  it('is not behind at 32 kB a second or more, also if the bytes come in lumps', () => {
    expect(behind([32_000, 32_000])).toEqual([0, 0]);
    expect(behind([0, 0, 96_000, 0, 0, 96_000])).toEqual([1_000, 2_000, 0, 1_000, 2_000, 0]);
  });

  it('cannot read in advance', () => {
    expect(behind([100_000_000, 0])).toEqual([0, 1_000]);
  });

  it('is never further behind than the time since it began, and catches up by reading faster', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 200_000 }), { minLength: 1, maxLength: 50 }), (bytes) => {
        const all = behind(bytes);
        for (const [n, ms] of all.entries()) {
          expect(ms).toBeGreaterThanOrEqual(0);
          expect(ms).toBeLessThanOrEqual((n + 1) * 1_000);
          expect(ms <= (all[n - 1] ?? 0)).toBe((bytes[n] ?? 0) >= 32_000 || ms === 0);
        }
      }),
    );
  });
});
