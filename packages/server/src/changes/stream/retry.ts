import { setTimeout as delay } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import { StaleFacts } from '../visibility/authorizer.js';

/** Pauses before it is tried again, in ms. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** The catalog is read again at once, but not without end. */
const MAX_STALE = 20;
/** What fails so often for a reason of its own is given up. */
const ATTEMPTS = 3;

/**
 * Does something with changes, again and again while the database is away or the catalog changes. Undefined when it
 * was given up, since it fails for a reason of its own, or when the signal was aborted.
 */
export async function retry<T>(
  work: () => Promise<T>,
  signal: AbortSignal,
  onFailure: (error: unknown) => void,
): Promise<T | undefined> {
  let pause = FIRST_PAUSE_MS;
  let stale = 0;
  for (let failures = 0; !signal.aborted; ) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof StaleFacts && stale++ < MAX_STALE) continue;
      if (!isTransient(error)) {
        failures += 1;
        onFailure(error);
        if (failures === ATTEMPTS) return undefined;
      }
    }
    await delay(pause, undefined, { signal }).catch(() => undefined);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
  return undefined;
}

function isTransient(error: unknown): boolean {
  return (
    error instanceof StaleFacts || (error instanceof ProtocolError && error.code === 'DATABASE_UNAVAILABLE')
  );
}
