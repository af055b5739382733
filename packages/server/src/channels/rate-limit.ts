import { ProtocolError } from '@goforward/realtime-protocol';
import { type KeyedRateLimiter, retryAfterSeconds } from '../lib/token-bucket.js';

/** Returns RATE_LIMIT_EXCEEDED with a `retry_after` of `waitMs`, rounded up. */
export function rateLimitExceeded(waitMs: number, details?: string): ProtocolError {
  return new ProtocolError('RATE_LIMIT_EXCEEDED', {
    ...(details === undefined ? {} : { details }),
    fields: { retry_after: retryAfterSeconds(waitMs) },
  });
}

/** Takes one token of `key`. Throws RATE_LIMIT_EXCEEDED if there is none. */
export function requireRate(limiter: KeyedRateLimiter, key: string, now: number): void {
  const wait = limiter.take(key, now);
  if (wait > 0) throw rateLimitExceeded(wait);
}
