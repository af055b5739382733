/** The rate, in bytes per ms, at which a peer for whom bytes wait has to read: 32 kB/s. */
export const MIN_READING_RATE = 32;

/**
 * Measures whether a peer for whom bytes wait reads at the minimum rate. A peer that reads nothing falls behind by as much
 * time as passes; each byte that it reads makes up for the time that the minimum rate allows for it, but never in advance.
 */
export class ReadingPace {
  #behindMs = 0;
  #now: number;
  #drainedBytes: number;

  /** `drainedBytes`: how many bytes the peer has ever read. */
  constructor(now: number, drainedBytes: number) {
    this.#now = now;
    this.#drainedBytes = drainedBytes;
  }

  /** Returns how many ms the peer is behind the minimum rate. */
  behindMs(now: number, drainedBytes: number): number {
    const madeUpMs = (drainedBytes - this.#drainedBytes) / MIN_READING_RATE;
    this.#behindMs = Math.max(0, this.#behindMs + now - this.#now - madeUpMs);
    this.#now = now;
    this.#drainedBytes = drainedBytes;
    return this.#behindMs;
  }
}
