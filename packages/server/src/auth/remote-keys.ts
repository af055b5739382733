import { createRemoteJWKSet, type JWTVerifyGetKey } from 'jose';
import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';

/** Milliseconds that a key set's host may take; the handshake waits for it. */
const TIMEOUT_MS = 5_000;
/** How old a key set may become before it is read anew. */
const MAX_AGE_MS = 10 * 60_000;

/**
 * The keys that an issuer publishes. They are waited for once, and when a token names a key that is not
 * known; reading them anew goes on beside, so that an issuer who is away for a while shuts nobody out.
 */
export function remoteKeys(url: string, log: Log, clock: Clock): JWTVerifyGetKey {
  const keys = createRemoteJWKSet(new URL(url), {
    timeoutDuration: TIMEOUT_MS,
    cacheMaxAge: Number.POSITIVE_INFINITY,
  });
  let readAt = 0;
  return (header, token) => {
    const now = clock();
    if (keys.jwks() === undefined) readAt = now;
    else if (now - readAt >= MAX_AGE_MS) {
      readAt = now;
      keys.reload().catch((error: unknown) => {
        log.warn({ err: error }, 'The key set for tokens cannot be read anew; its last keys stay in use');
      });
    }
    return keys(header, token);
  };
}
