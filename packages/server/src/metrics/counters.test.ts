import { expect, test } from 'vitest';
import { Counters } from './counters.js';

test('errors sent to clients are counted by code', () => {
  const counters = new Counters();
  for (const code of ['AUTH_FAILED', 'INTERNAL', 'AUTH_FAILED']) counters.refused(code);
  expect([...counters.refusals]).toEqual([
    ['AUTH_FAILED', 2],
    ['INTERNAL', 1],
  ]);
});

test('fan-out durations are observed in seconds, and dropped without an observer', () => {
  const counters = new Counters();
  counters.fanOutMs(5);
  const seconds: number[] = [];
  counters.onFanOut((duration) => seconds.push(duration));
  counters.fanOutMs(250);
  expect(seconds).toEqual([0.25]);
});
