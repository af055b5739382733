import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

type Address = ReturnType<typeof ipaddr.process>;
type Network = readonly [address: Address, prefix: number];

/** A configured set of IP addresses: one address, one network, or `loopback`. */
export interface IpRange {
  /** The range as it was written. */
  readonly text: string;
  readonly networks: readonly Network[];
}

const LOOPBACK = ['127.0.0.0/8', '::1/128'];
const PREFIX = /^\d{1,3}$/;
/** Prefix length of IPv4 addresses mapped into IPv6: ::ffff:0:0/96. */
const MAPPED_BITS = 96;
const LOOPBACK_RANGES = [parseIpRange('loopback')].filter((range) => range !== undefined);

/** Parses an address (`10.0.0.1`), a network (`fd00::/8`) or `loopback`; undefined for other text. */
export function parseIpRange(text: string): IpRange | undefined {
  const parts = text === 'loopback' ? LOOPBACK : [text];
  const networks = parts.map(parseNetwork).filter((network) => network !== undefined);
  return networks.length === parts.length ? { text, networks } : undefined;
}

/** Returns whether `ip` is in one of `ranges`. IPv4 addresses mapped into IPv6 count as IPv4. */
export function ipInRanges(ip: string, ranges: readonly IpRange[]): boolean {
  if (isIP(ip) === 0) return false;
  const address = ipaddr.process(ip);
  return ranges.some(({ networks }) => networks.some((network) => contains(network, address)));
}

/** Returns whether a host name or IP address (IPv6 also in brackets) is `localhost` or a loopback address. */
export function isLoopbackHost(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, '$1');
  return name === 'localhost' || ipInRanges(name, LOOPBACK_RANGES);
}

/**
 * Returns the key by which limits count an address: an IPv4 address, or the /64 network of an IPv6 address,
 * since one host owns a whole /64. Returns any other text unchanged.
 */
export function addressGroup(ip: string): string {
  if (isIP(ip) === 0) return ip;
  const address = ipaddr.process(ip);
  if (address.kind() === 'ipv4') return address.toString();
  const network = address.toByteArray().map((byte, index) => (index < 8 ? byte : 0));
  return `${ipaddr.fromByteArray(network).toString()}/64`;
}

function contains([network, prefix]: Network, address: Address): boolean {
  return network.kind() === address.kind() && address.match(network, prefix);
}

function parseNetwork(text: string): Network | undefined {
  const [ip = '', prefix, ...rest] = text.split('/');
  // ipaddr.js also accepts `127.1` and octal numbers, which other programs read differently.
  if (isIP(ip) === 0 || rest.length > 0) return undefined;
  const written = ipaddr.parse(ip);
  const bits = written.kind() === 'ipv4' ? 32 : 128;
  if (prefix !== undefined && (!PREFIX.test(prefix) || Number(prefix) > bits)) return undefined;
  const length = prefix === undefined ? bits : Number(prefix);
  const address = ipaddr.process(ip);
  if (address.kind() === written.kind()) return [address, length];
  return length >= MAPPED_BITS ? [address, length - MAPPED_BITS] : undefined;
}
