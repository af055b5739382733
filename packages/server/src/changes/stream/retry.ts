import { setTimeout as delay } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import { StaleFacts } from '../visibility/stale-facts.js';

/** The delay before the first retry, and the longest one: it doubles each time. */
const FIRST_DELAY_MS = 50;
const MAX_DELAY_MS = 1_000;
/** How often work is retried without delay after a change of the catalog. */
const MAX_STALE_RETRIES = 20;
/** How many failures of the work itself are tolerated before it is given up. */
const MAX_FAILURES = 3;

/**
 * Runs work on changes, and retries it for as long as the database is unavailable or the catalog changes. Any
 * other error is passed to `onFailure`; after `maxFailures` of them the work is given up. Returns undefined if
 * the work was given up or the signal was aborted.
 */
export async function retry<T>(
  work: () => Promise<T>,
  signal: AbortSignal,
  onFailure: (error: unknown) => void,
  maxFailures = MAX_FAILURES,
): Promise<T | undefined> {
  let delayMs = FIRST_DELAY_MS;
  let staleRetries = 0;
  for (let failures = 0; !signal.aborted; ) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof StaleFacts && staleRetries++ < MAX_STALE_RETRIES) continue;
      if (!isTransient(error)) {
        failures += 1;
        onFailure(error);
        if (failures === maxFailures) return undefined;
      }
    }
    await delay(delayMs, undefined, { signal }).catch(() => undefined);
    delayMs = Math.min(delayMs * 2, MAX_DELAY_MS);
  }
  return undefined;
}

function isTransient(error: unknown): boolean {
  return (
    error instanceof StaleFacts || (error instanceof ProtocolError && error.code === 'DATABASE_UNAVAILABLE')
  );
}
