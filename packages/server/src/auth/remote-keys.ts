import { createRemoteJWKSet, type JWTVerifyGetKey } from 'jose';
import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';

/** How long the host of the key set may take to answer, in ms; a handshake waits for it. */
const TIMEOUT_MS = 5_000;
/** How old the key set may become before it is fetched again. */
const MAX_AGE_MS = 10 * 60_000;

/**
 * Returns a lookup of the keys that an issuer publishes. A handshake waits for the first fetch, and for one
 * when a token names an unknown key. Later fetches run in the background, so that tokens stay valid while the
 * issuer is down.
 */
export function remoteKeys(url: string, log: Log, clock: Clock): JWTVerifyGetKey {
  const keys = createRemoteJWKSet(new URL(url), {
    timeoutDuration: TIMEOUT_MS,
    cacheMaxAge: Number.POSITIVE_INFINITY,
  });
  let fetchedAt = 0;
  return (header, token) => {
    const now = clock();
    if (keys.jwks() === undefined) fetchedAt = now;
    else if (now - fetchedAt >= MAX_AGE_MS) {
      fetchedAt = now;
      keys.reload().catch((error: unknown) => {
        log.warn(
          { err: error },
          'Refreshing the key set of REALTIME_JWKS_URL failed; the last keys stay in use',
        );
      });
    }
    return keys(header, token);
  };
}
