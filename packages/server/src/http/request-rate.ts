import type { IncomingMessage } from 'node:http';
import { requireRate } from '../channels/rate-limit.js';
import type { Clock } from '../lib/clock.js';
import type { IpRange } from '../lib/ip-range.js';
import { KeyedRateLimiter, type Rate } from '../lib/token-bucket.js';
import { clientAddress } from './client-address.js';

/** What orchestrators and Prometheus read. They must get an answer while others use up the rate of their address. */
const PROBES = new Set(['/healthz', '/readyz', '/metrics']);

/** Limits the requests of each client address. Requests of probes have a rate of their own. */
export class RequestRate {
  readonly #requests: KeyedRateLimiter;
  readonly #probes: KeyedRateLimiter;
  readonly #trustedProxies: readonly IpRange[];
  readonly #clock: Clock;

  constructor(rate: Rate, trustedProxies: readonly IpRange[], clock: Clock) {
    this.#requests = new KeyedRateLimiter(rate);
    this.#probes = new KeyedRateLimiter(rate);
    this.#trustedProxies = trustedProxies;
    this.#clock = clock;
  }

  /** Throws RATE_LIMIT_EXCEEDED if the client's address has used up its rate. */
  require(request: IncomingMessage): void {
    const limiter = PROBES.has(pathOf(request)) ? this.#probes : this.#requests;
    requireRate(limiter, clientAddress(request, this.#trustedProxies), this.#clock());
  }
}

function pathOf({ url = '/' }: IncomingMessage): string {
  const end = url.indexOf('?');
  return end < 0 ? url : url.slice(0, end);
}
