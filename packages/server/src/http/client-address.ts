import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { addressGroup, type IpRange, ipInRanges } from '../lib/ip-range.js';

/** Proxies in a row that are believed; a real chain has a few. */
const MAX_HOPS = 16;

/**
 * Returns the address by which limits count a client: the peer's, or, if the peer is a trusted proxy, the
 * last address in `X-Forwarded-For` that is not of a trusted proxy. Anything further left can be forged, and
 * is not read: a client can make it 16 kB long.
 */
export function clientAddress(request: IncomingMessage, trusted: readonly IpRange[]): string {
  let address = request.socket.remoteAddress ?? 'unknown';
  if (!ipInRanges(address, trusted)) return addressGroup(address);
  const forwarded = [request.headers['x-forwarded-for'] ?? []].flat().join(',');
  let end = forwarded.length;
  for (let hops = 0; hops < MAX_HOPS && end >= 0 && ipInRanges(address, trusted); hops++) {
    const start = forwarded.lastIndexOf(',', end - 1);
    const hop = withoutPort(forwarded.slice(start + 1, end));
    if (isIP(hop) === 0) break;
    address = hop;
    end = start;
  }
  return addressGroup(address);
}

/** Removes the port that some proxies add: `1.2.3.4:5678`, `[2001:db8::5]:5678`. */
function withoutPort(hop: string): string {
  const text = hop.trim();
  return /^\[(.+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
}
