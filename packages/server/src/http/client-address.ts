import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { addressGroup, type IpRange, ipInRanges } from '../lib/ip-range.js';

/**
 * Returns the address by which limits count a client: the peer's, or, if the peer is a trusted proxy, the
 * last address in `X-Forwarded-For` that is not of a trusted proxy. Anything further left can be forged.
 */
export function clientAddress(request: IncomingMessage, trusted: readonly IpRange[]): string {
  let address = request.socket.remoteAddress ?? 'unknown';
  const forwarded = [request.headers['x-forwarded-for'] ?? []].flat().join(',').split(',');
  for (const hop of forwarded.map(withoutPort).reverse()) {
    if (!ipInRanges(address, trusted)) break;
    if (isIP(hop) === 0) break;
    address = hop;
  }
  return addressGroup(address);
}

/** Removes the port that some proxies add: `1.2.3.4:5678`, `[2001:db8::5]:5678`. */
function withoutPort(hop: string): string {
  const text = hop.trim();
  return /^\[(.+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
}
