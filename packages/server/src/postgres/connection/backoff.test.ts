import fc from 'fast-check';
import { expect, it } from 'vitest';
import { backoffDelay } from './backoff.js';

it('the upper bound of the delay doubles from 100 ms to the maximum, and the delay is random below it', () => {
  const longest = (attempt: number) => backoffDelay(attempt, 30_000, () => 1);
  expect([0, 1, 2, 3, 8, 9, 1000].map(longest)).toEqual([100, 200, 400, 800, 25_600, 30_000, 30_000]);
  fc.assert(
    fc.property(fc.nat(), fc.double({ min: 0, max: 1, noNaN: true }), (attempt, random) => {
      const delay = backoffDelay(attempt, 5_000, () => random);
      return delay >= 0 && delay <= 5_000;
    }),
  );
});
