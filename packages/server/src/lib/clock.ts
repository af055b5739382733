/**
 * Returns monotonic time, in ms since an arbitrary moment: for intervals, deadlines, rates and ages. Nobody can set it.
 */
export type Clock = () => number;

/**
 * Reads the time of day, which an operator or NTP can set back or forward at any moment: for what has a date, such as a
 * token's `exp` or the timestamp of a message. It is not a function, so that the compiler accepts neither clock in place
 * of the other.
 */
export interface WallClock {
  /** Returns ms since 1970-01-01 UTC. */
  epochMs(): number;
}

export const monotonicClock: Clock = () => performance.now();

export const wallClock: WallClock = { epochMs: () => Date.now() };
