import { ProtocolError } from '@goforward/realtime-protocol';
import { type KeyedRateLimiter, retryAfterSeconds } from '../lib/token-bucket.js';

/** The error of somebody who came `waitMs` too early. */
export function rateLimitExceeded(waitMs: number, details?: string): ProtocolError {
  return new ProtocolError('RATE_LIMIT_EXCEEDED', {
    ...(details === undefined ? {} : { details }),
    fields: { retry_after: retryAfterSeconds(waitMs) },
  });
}

/** Takes one token of `key`, or throws RATE_LIMIT_EXCEEDED. */
export function requireRate(limiter: KeyedRateLimiter, key: string, now: number): void {
  const wait = limiter.take(key, now);
  if (wait > 0) throw rateLimitExceeded(wait);
}
