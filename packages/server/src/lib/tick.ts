/** Something with work that has gathered during this turn of the event loop. */
export interface Flushable {
  flush(): void;
}

/** In this order: presence makes frames, channels hand frames to connections, outboxes write to sockets. */
const STAGES = ['presence', 'channels', 'outboxes'] as const;
export type Stage = (typeof STAGES)[number];

/**
 * The end of a turn of the event loop. Whatever was published, tracked or replied while this turn read its
 * sockets is flushed together once, by `setImmediate`, in the order of the stages; so everything that is
 * pending for a socket becomes one write, without a timer and its latency.
 */
export class Tick {
  readonly #waiting: Record<Stage, Flushable[]> = { presence: [], channels: [], outboxes: [] };
  #scheduled = false;
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Has `item.flush` called once at the end of this turn; the item itself knows that it is waiting. */
  add(stage: Stage, item: Flushable): void {
    this.#waiting[stage].push(item);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.flush());
  }

  /** Flushes now: for a shutdown, and for tests. */
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

  /** One channel's defect must not keep the others from their bytes. */
  #flushOne(item: Flushable): void {
    try {
      item.flush();
    } catch (error) {
      this.#onError(error);
    }
  }
}
