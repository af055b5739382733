import { afterEach, expect, expectTypeOf, it, vi } from 'vitest';
import { type Clock, monotonicClock, type WallClock, wallClock } from './clock.js';

const HOUR = 3_600_000;

afterEach(() => {
  vi.useRealTimers();
});

it.each([HOUR, -HOUR])('when the time of day is set by %d ms, only the wall clock follows', (jump) => {
  const before = { monotonic: monotonicClock(), wall: wallClock.epochMs() };
  vi.useFakeTimers({ toFake: ['Date'], now: before.wall + jump });
  expect(wallClock.epochMs() - before.wall).toBe(jump);
  const passed = monotonicClock() - before.monotonic;
  expect(passed).toBeGreaterThanOrEqual(0);
  expect(passed).toBeLessThan(HOUR);
});

it('the compiler accepts neither clock in place of the other', () => {
  expectTypeOf<WallClock>().not.toExtend<Clock>();
  expectTypeOf<Clock>().not.toExtend<WallClock>();
});
