import { expect, test } from 'vitest';
import { Tally } from './tally.js';

test('refusals are counted by code', () => {
  const tally = new Tally();
  for (const code of ['AUTH_FAILED', 'INTERNAL', 'AUTH_FAILED']) tally.refused(code);
  expect([...tally.refusals]).toEqual([
    ['AUTH_FAILED', 2],
    ['INTERNAL', 1],
  ]);
});

test('durations of a fan-out are told in seconds, and dropped where nobody asks', () => {
  const tally = new Tally();
  tally.fanOutMs(5);
  const seconds: number[] = [];
  tally.onFanOut((duration) => seconds.push(duration));
  tally.fanOutMs(250);
  expect(seconds).toEqual([0.25]);
});
