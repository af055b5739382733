import type { Clock } from './clock.js';

/** Something that wants to be looked at again at a time it names itself. */
export interface Timed {
  /** Kept by the wheel: the slot this stands in, -1 when in none. */
  wheelIndex: number;
  /** Kept by the wheel: when this is due, in ms. */
  wheelAt: number;
  /** Does what is due at `now` and answers when it wants to be called next (ms), or Infinity for never. */
  due(now: number): number;
}

/**
 * One timer for everything that waits: slots of `tickMs`, visited in turn. An item further away than one
 * round stands in the last slot and is put forward again. Lateness is at most one tick.
 */
export class TimerWheel {
  readonly #onError: (error: unknown) => void;
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #slots: Set<Timed>[];
  #hand: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(onError: (error: unknown) => void, clock: Clock = Date.now, tickMs = 100, slots = 1024) {
    this.#onError = onError;
    this.#clock = clock;
    this.#tickMs = tickMs;
    this.#slots = Array.from({ length: slots }, () => new Set());
    this.#hand = Math.floor(clock() / tickMs);
  }

  start(): void {
    this.#timer ??= setInterval(() => this.tick(), this.#tickMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Puts `item` to be due at `at` (ms), instead of when it was before. */
  schedule(item: Timed, at: number): void {
    this.cancel(item);
    if (at === Number.POSITIVE_INFINITY) return;
    const furthest = this.#hand + this.#slots.length - 1;
    const tick = Math.min(Math.max(Math.ceil(at / this.#tickMs), this.#hand + 1), furthest);
    item.wheelIndex = tick % this.#slots.length;
    this.#slots[item.wheelIndex]?.add(item);
    item.wheelAt = at;
  }

  cancel(item: Timed): void {
    if (item.wheelIndex < 0) return;
    this.#slots[item.wheelIndex]?.delete(item);
    item.wheelIndex = -1;
  }

  /** Visits every slot whose time has come; a clock that jumped far ahead visits each slot once. */
  tick(): void {
    const now = this.#clock();
    const target = Math.floor(now / this.#tickMs);
    const from = Math.max(this.#hand + 1, target - this.#slots.length + 1);
    this.#hand = target;
    for (let tick = from; tick <= target; tick++) this.#visit(tick % this.#slots.length, now);
  }

  #visit(slot: number, now: number): void {
    const items = this.#slots[slot];
    if (items === undefined || items.size === 0) return;
    const standing = [...items]; // an item may come back to this very slot, for the next round
    for (const item of standing) {
      if (item.wheelIndex !== slot) continue;
      this.schedule(item, item.wheelAt > now ? item.wheelAt : this.#due(item, now));
    }
  }

  /** One item's defect must not keep the others waiting; that item is not called again. */
  #due(item: Timed, now: number): number {
    try {
      return item.due(now);
    } catch (error) {
      this.#onError(error);
      return Number.POSITIVE_INFINITY;
    }
  }
}
