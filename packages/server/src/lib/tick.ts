/** Has work pending from this tick of the event loop. */
export interface Flushable {
  flush(): void;
}

/** The order of flushing: presence creates frames, channels push them to connections, outboxes write. */
const STAGES = ['presence', 'channels', 'outboxes'] as const;
export type Stage = (typeof STAGES)[number];

/**
 * Flushes pending work at the end of a tick of the event loop. All messages, presence updates and replies of
 * the tick are flushed once, by `setImmediate`, in the order of the stages. Everything pending for a socket
 * becomes one write, without the latency of a timer.
 */
export class Tick {
  readonly #waiting: Record<Stage, Flushable[]> = { presence: [], channels: [], outboxes: [] };
  #scheduled = false;
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Calls `item.flush` at the end of this tick. Does not detect an item that was added already. */
  add(stage: Stage, item: Flushable): void {
    this.#waiting[stage].push(item);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.flush());
  }

  /** Flushes now. Also called directly at shutdown and by tests. */
  flush(): void {
    this.#scheduled = true;
    for (const stage of STAGES) {
      const items = this.#waiting[stage];
      if (items.length === 0) continue;
      this.#waiting[stage] = [];
      for (const item of items) this.#flushOne(item);
    }
    this.#scheduled = STAGES.some((stage) => this.#waiting[stage].length > 0);
    if (this.#scheduled) setImmediate(() => this.flush());
  }

  /** Reports an error of one item, so that the other items are still flushed. */
  #flushOne(item: Flushable): void {
    try {
      item.flush();
    } catch (error) {
      this.#onError(error);
    }
  }
}
