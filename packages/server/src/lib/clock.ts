/**
 * Returns monotonic time, in ms since some moment before the process started its work: for intervals, deadlines, rates
 * and ages. It goes on while somebody sets the clock of the machine.
 */
export type Clock = () => number;

/**
 * Tells the time of day, which an operator or NTP can set back or forward at any moment: for what has a date, such as a
 * token's `exp` or the timestamp of a message. It is no function, so that the compiler accepts neither clock in place
 * of the other.
 */
export interface WallClock {
  /** Returns ms since 1970-01-01 UTC. */
  epochMs(): number;
}

export const monotonicClock: Clock = () => performance.now();

export const wallClock: WallClock = { epochMs: () => Date.now() };
