import { PoolExhausted } from './statement-options.js';

export interface SlotLimits {
  readonly connections: number;
  /** How many callers may wait for a slot. */
  readonly waiting: number;
  /** How long a caller waits for a slot, in ms. */
  readonly waitMs: number;
}

const CLOSED = 'the pool is closed';

/** A caller without a slot. */
interface Waiting {
  start(): void;
  refuse(reason: string): void;
}

/** Bounds how many connections are in use. Callers wait in the order in which they came. */
export class ConnectionSlots {
  readonly #limits: SlotLimits;
  readonly #waiting = new Set<Waiting>();
  #inUse = 0;
  #isClosed = false;

  constructor(limits: SlotLimits) {
    this.#limits = limits;
  }

  get inUse(): number {
    return this.#inUse;
  }

  /** Takes a slot, until `release`. Throws PoolExhausted, or the reason of `signal` when that aborts. */
  async acquire(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#isClosed) throw new PoolExhausted(CLOSED);
    if (this.#inUse < this.#limits.connections) this.#inUse += 1;
    else if (this.#waiting.size >= this.#limits.waiting)
      throw new PoolExhausted('too many callers are waiting');
    else await this.#wait(signal);
  }

  /** Gives a slot back. The first waiting caller gets it. */
  release(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#inUse -= 1;
    else next.start();
  }

  /** Refuses the waiting callers, and all later ones. */
  close(): void {
    this.#isClosed = true;
    for (const caller of this.#waiting) caller.refuse(CLOSED);
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(caller);
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const caller = {
        start: () => {
          leave();
          resolve();
        },
        refuse: (reason: string) => {
          leave();
          reject(new PoolExhausted(reason));
        },
      };
      const onAbort = () => {
        leave();
        reject(signal?.reason);
      };
      const timer = setTimeout(() => caller.refuse('all connections are in use'), this.#limits.waitMs);
      signal?.addEventListener('abort', onAbort);
      this.#waiting.add(caller);
    });
  }
}
