import { type Clock, monotonicClock } from './clock.js';

/** Has a deadline that a TimerWheel watches. */
export interface Timed {
  /** Set by the wheel: index of the bucket that holds this item, -1 for none. */
  wheelIndex: number;
  /** Set by the wheel: when this item is due, in ms of the wheel's clock. */
  wheelAt: number;
  /** Does what is due at `now`. Returns when to call again, by the same clock, or Infinity for never. */
  due(now: number): number;
}

/**
 * Watches any number of deadlines with one timer: a ring of buckets, `tickMs` apart, visited one after the
 * other. An item further away than one round waits in the last bucket and is rescheduled there. Calls are at
 * most one tick late.
 */
export class TimerWheel {
  readonly #onError: (error: unknown) => void;
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #buckets: Set<Timed>[];
  #currentTick: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    onError: (error: unknown) => void,
    clock: Clock = monotonicClock,
    tickMs = 100,
    buckets = 1024,
  ) {
    this.#onError = onError;
    this.#clock = clock;
    this.#tickMs = tickMs;
    this.#buckets = Array.from({ length: buckets }, () => new Set());
    this.#currentTick = Math.floor(clock() / tickMs);
  }

  start(): void {
    this.#timer ??= setInterval(() => this.tick(), this.#tickMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Schedules `item` for `at` (ms), replacing its earlier time. Infinity cancels it. */
  schedule(item: Timed, at: number): void {
    this.cancel(item);
    if (at === Number.POSITIVE_INFINITY) return;
    const furthest = this.#currentTick + this.#buckets.length - 1;
    const tick = Math.min(Math.max(Math.ceil(at / this.#tickMs), this.#currentTick + 1), furthest);
    item.wheelIndex = tick % this.#buckets.length;
    this.#buckets[item.wheelIndex]?.add(item);
    item.wheelAt = at;
  }

  cancel(item: Timed): void {
    if (item.wheelIndex < 0) return;
    this.#buckets[item.wheelIndex]?.delete(item);
    item.wheelIndex = -1;
  }

  /** Visits every bucket whose time has come. After a pause of several rounds, visits each bucket once. */
  tick(): void {
    const now = this.#clock();
    const target = Math.floor(now / this.#tickMs);
    const from = Math.max(this.#currentTick + 1, target - this.#buckets.length + 1);
    this.#currentTick = target;
    for (let tick = from; tick <= target; tick++) this.#visit(tick % this.#buckets.length, now);
  }

  #visit(bucket: number, now: number): void {
    const items = this.#buckets[bucket];
    if (items === undefined || items.size === 0) return;
    const visited = [...items]; // an item may be added to this same bucket again, for the next round
    for (const item of visited) {
      if (item.wheelIndex !== bucket) continue;
      this.schedule(item, item.wheelAt > now ? item.wheelAt : this.#due(item, now));
    }
  }

  /** Reports an error of one item and does not call that item again, so that the others stay on time. */
  #due(item: Timed, now: number): number {
    try {
      return item.due(now);
    } catch (error) {
      this.#onError(error);
      return Number.POSITIVE_INFINITY;
    }
  }
}
