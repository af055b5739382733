import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { monotonicClock } from './clock.js';
import { type Timed, TimerWheel } from './timer-wheel.js';

const rethrow = (error: unknown) => {
  throw error;
};

const TICK = 100;
const NEVER = Number.POSITIVE_INFINITY;

/** An item that records when it was called and returns what `next` returns. */
class Item implements Timed {
  wheelIndex = -1;
  wheelAt = 0;
  readonly calls: number[] = [];
  readonly #next: (now: number) => number;

  constructor(next: (now: number) => number = () => NEVER) {
    this.#next = next;
  }

  due(now: number): number {
    this.calls.push(now);
    return this.#next(now);
  }
}

/** Creates a wheel of few buckets, so that rounds are short, and a clock that the test moves. */
function wheelAt(start: number, buckets = 8) {
  const time = { now: start };
  const wheel = new TimerWheel(rethrow, () => time.now, TICK, buckets);
  const goTo = (now: number) => {
    time.now = now;
    wheel.tick();
  };
  return { time, wheel, goTo };
}

type Step =
  | { do: 'schedule'; item: number; in: number }
  | { do: 'cancel'; item: number }
  | { do: 'wait'; ms: number };

const item = fc.nat({ max: 4 });
/** Ms of a monotonic clock, which has fractions. */
const ms = (min: number, max: number) =>
  fc.oneof(fc.integer({ min, max }), fc.double({ min, max, noNaN: true }));
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('schedule' as const), item, in: ms(-300, 3_000) }),
  fc.record({ do: fc.constant('cancel' as const), item }),
  fc.record({ do: fc.constant('wait' as const), ms: ms(0, 5 * TICK) }),
);

/** Expects each item to be called once per scheduled time, not early, and at the latest by the next tick. */
function expectAsModel(steps: Step[], start: number): void {
  const { time, wheel, goTo } = wheelAt(start);
  const items = [0, 1, 2, 3, 4].map(() => new Item());
  const planned = new Map<Item, { at: number; latest: number }>();
  for (const action of steps) {
    if (action.do === 'wait') {
      goTo(time.now + action.ms);
      for (const target of items) {
        const plan = planned.get(target);
        const calls = target.calls.splice(0);
        if (plan === undefined || time.now < plan.at) expect(calls).toEqual([]);
        else if (time.now >= plan.latest) expect(calls).toEqual([time.now]);
        if (calls.length > 0) planned.delete(target);
      }
      continue;
    }
    const target = items[action.item];
    if (target === undefined) throw new Error('no such item');
    planned.delete(target);
    if (action.do === 'cancel') wheel.cancel(target);
    else {
      const at = time.now + action.in;
      const nextTick = (Math.floor(time.now / TICK) + 1) * TICK;
      wheel.schedule(target, at);
      planned.set(target, { at, latest: Math.max(Math.ceil(at / TICK) * TICK, nextTick) });
    }
  }
}

afterEach(() => {
  vi.useRealTimers();
});

describe('a timer wheel', () => {
  it('calls each item never early and at most one tick late, across rounds, cancellations and rescheduling', () => {
    fc.assert(fc.property(fc.array(step, { maxLength: 80, size: 'max' }), ms(0, 2_000), expectAsModel), {
      numRuns: 500,
    });
  });

  it('waits whole rounds for a distant item', () => {
    const { wheel, goTo } = wheelAt(0);
    const far = new Item();
    wheel.schedule(far, 10_050);
    for (let now = TICK; now <= 10_000; now += TICK) goTo(now);
    expect(far.calls).toEqual([]);
    goTo(10_100);
    expect(far.calls).toEqual([10_100]);
  });

  it('calls everything due once after a pause of many rounds', () => {
    const { wheel, goTo } = wheelAt(0);
    const items = [50, 450, 777, 5_000, 99_000].map((at) => {
      const due = new Item();
      wheel.schedule(due, at);
      return due;
    });
    const later = new Item();
    wheel.schedule(later, 100_050);
    goTo(100_000);
    expect(items.map(({ calls }) => calls)).toEqual(items.map(() => [100_000]));
    expect(later.calls).toEqual([]);
    goTo(100_100);
    expect(later.calls).toEqual([100_100]);
  });

  it('calls an item again at the time it returns, at most once per tick', () => {
    const { wheel, goTo } = wheelAt(0);
    const steady = new Item((now) => now + 250);
    const hasty = new Item(() => 0);
    wheel.schedule(steady, 100);
    wheel.schedule(hasty, 100);
    for (let now = TICK; now <= 1_000; now += TICK) goTo(now);
    expect(steady.calls).toEqual([100, 400, 700, 1_000]);
    expect(hasty.calls).toHaveLength(10);
  });

  it('lets a due item cancel and reschedule others due at the same time', () => {
    const { wheel, goTo } = wheelAt(0);
    const cancelled = new Item();
    const moved = new Item();
    const first = new Item(() => {
      wheel.cancel(cancelled);
      wheel.schedule(moved, 900);
      return NEVER;
    });
    for (const due of [first, cancelled, moved]) wheel.schedule(due, 100);
    for (let now = TICK; now <= 1_000; now += TICK) goTo(now);
    expect([first.calls, cancelled.calls, moved.calls]).toEqual([[100], [], [900]]);
  });

  it('treats Infinity as never, also when it replaces an earlier time', () => {
    const { wheel, goTo } = wheelAt(0);
    const never = new Item();
    wheel.schedule(never, 100);
    wheel.schedule(never, NEVER);
    goTo(100_000);
    expect(never.calls).toEqual([]);
  });

  it('runs from start to stop, with one timer however often it is started', () => {
    vi.useFakeTimers();
    const wheel = new TimerWheel(rethrow, monotonicClock, TICK);
    const start = monotonicClock();
    const steady = new Item((now) => now + TICK);
    wheel.schedule(steady, start + TICK);
    wheel.start();
    wheel.start();
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(3 * TICK);
    wheel.stop();
    vi.advanceTimersByTime(3 * TICK);
    expect(steady.calls.map((at) => at - start)).toEqual([100, 200, 300]);
  });
});

it('an item that throws is reported and not called again, and the others stay on time', () => {
  const time = { now: 0 };
  const reported: unknown[] = [];
  const wheel = new TimerWheel(
    (error) => reported.push(error),
    () => time.now,
    100,
    16,
  );
  const calls = { broken: 0, working: 0 };
  const broken = {
    wheelIndex: -1,
    wheelAt: 0,
    due: () => {
      calls.broken += 1;
      throw new Error('a defect');
    },
  };
  const working = {
    wheelIndex: -1,
    wheelAt: 0,
    due: (now: number) => {
      calls.working += 1;
      return now + 100;
    },
  };
  wheel.schedule(broken, 100);
  wheel.schedule(working, 100);
  for (time.now = 100; time.now <= 500; time.now += 100) wheel.tick();
  expect(calls).toEqual({ broken: 1, working: 5 });
  expect(reported).toEqual([new Error('a defect')]);
});
