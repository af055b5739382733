const FIRST_MS = 100;

/**
 * Returns the delay before attempt `attempt` (0 is the first after a failure), in ms. It uses full jitter, so
 * that many nodes that lost the same database do not reconnect at the same moment.
 */
export function backoffDelay(attempt: number, maxMs: number, random: () => number): number {
  return random() * Math.min(maxMs, FIRST_MS * 2 ** attempt);
}
