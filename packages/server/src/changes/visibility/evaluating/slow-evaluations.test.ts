import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { SlowEvaluations } from './slow-evaluations.js';

let now: number;
let slow: SlowEvaluations;
beforeEach(() => {
  now = 0;
  slow = new SlowEvaluations(() => now);
});

describe('an item', () => {
  it('is not slow before it was slow, or after a quick evaluation alone', () => {
    expect(slow.evaluated('a', 50)).toBe(false);
    expect(slow.isSlow('a')).toBe(false);
  });

  it('counts as slow for two seconds after each slow evaluation', () => {
    expect(slow.evaluated('a', 51)).toBe(true);
    now = 1_500;
    slow.evaluated('a', 51);
    now = 3_499;
    expect([slow.isSlow('a'), slow.isSlow('b')]).toEqual([true, false]);
    now = 3_500;
    expect(slow.isSlow('a')).toBe(false);
  });

  it('costs others at most twenty-one waits in an hour, however often it is slow, and starts anew after ten good minutes', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 5_000 }), { minLength: 1 }), (pauses) => {
        now = 0;
        slow = new SlowEvaluations(() => now);
        let waits = 0;
        for (let n = 0; now < 3_600_000; n++) {
          if (!slow.isSlow('a')) {
            slow.overran('a');
            waits += 1;
          }
          now += 1 + (pauses[n % pauses.length] ?? 0);
        }
        expect(waits).toBeLessThanOrEqual(21);
      }),
      { numRuns: 20 },
    );
    now += 600_001 + 300_000;
    slow.overran('a');
    now += 1_000;
    expect(slow.isSlow('a')).toBe(false);
  });
});
