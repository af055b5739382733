import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { addressGroup, type IpRange, ipInRanges } from '../lib/ip-range.js';

/**
 * The address that limits count: the peer's, or, where the peer is a trusted proxy, the last address in
 * `X-Forwarded-For` that no trusted proxy has. What stands further left was written by whoever wanted to.
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

/** Some proxies write the port too: `1.2.3.4:5678`, `[2001:db8::5]:5678`. */
function withoutPort(hop: string): string {
  const text = hop.trim();
  return /^\[(.+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
}
