const FIRST_MS = 100;

/**
 * The pause before attempt `attempt` (0 is the first after a failure), in ms: full jitter, so that many
 * nodes that lost the same database do not come back as one.
 */
export function backoffDelay(attempt: number, maxMs: number, random: () => number): number {
  return random() * Math.min(maxMs, FIRST_MS * 2 ** attempt);
}
