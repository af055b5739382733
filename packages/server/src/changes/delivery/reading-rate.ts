/** The slowest that a member may read while something waits for it, in bytes per second over `WINDOW_MS`. */
export const MIN_BYTES_PER_SECOND = 32 * 1024;
const WINDOW_MS = 10_000;
/** What is on its way counts only when all of it has been taken: a reader is given this much, in bytes. */
const GRANULARITY_BYTES = 64 * 1024;

/** Finds out whether a member reads more slowly than `MIN_BYTES_PER_SECOND`, averaged over ten seconds. */
export class ReadingRate {
  /** Since `WINDOW_MS` ago, and one before. */
  #samples: { readonly at: number; readonly taken: number }[];

  /** `now`: when something began to wait. */
  constructor(now: number) {
    this.#samples = [{ at: now, taken: 0 }];
  }

  /** Whether the member is too slow. `taken`: how many bytes it has taken so far. To be asked about once per second. */
  isTooSlow(now: number, taken: number): boolean {
    this.#samples.push({ at: now, taken });
    const inWindow = this.#samples.findIndex(({ at }) => now - at < WINDOW_MS);
    if (inWindow > 1) this.#samples.splice(0, inWindow - 1);
    const [first] = this.#samples;
    if (first === undefined || now - first.at < WINDOW_MS) return false;
    const expected = (MIN_BYTES_PER_SECOND * (now - first.at)) / 1_000;
    return taken - first.taken < expected - GRANULARITY_BYTES;
  }
}
