import type { Socket } from 'node:net';
import { addressGroup, type IpRange, ipInRanges } from '../lib/ip-range.js';

interface SocketLimitSettings {
  readonly maxConnections: number;
  readonly maxConnectionsPerIp: number;
  readonly trustedProxies: readonly IpRange[];
}

/** Which limit a socket exceeds. */
export type ExceededLimit = 'address' | 'server';

interface AddressCount {
  readonly address: string;
  sockets: number;
}

/**
 * Returns how many sockets there may be for a number of WebSocket connections: a fifth more, at least 64 more.
 * HTTP requests need sockets too, and so does a WebSocket handshake, whose refusal must be readable.
 */
export function socketAllowance(connections: number): number {
  return Math.max(Math.ceil(connections * 1.2), connections + 64);
}

/**
 * Counts open sockets, WebSockets included, in all and by the peer's address. Sockets of trusted proxies have
 * no limit per address: they carry many clients.
 */
export class SocketLimits {
  readonly #perServer: number;
  readonly #perAddress: number;
  readonly #trusted: readonly IpRange[];
  readonly #byAddress = new Map<string, AddressCount>();
  readonly #sockets = new Map<Socket, AddressCount>();

  constructor({ maxConnections, maxConnectionsPerIp, trustedProxies }: SocketLimitSettings) {
    this.#perServer = socketAllowance(maxConnections);
    this.#perAddress = socketAllowance(maxConnectionsPerIp);
    this.#trusted = trustedProxies;
  }

  /** Counts a new socket until `remove`. Returns the limit that it exceeds; it is then not counted. */
  add(socket: Socket): ExceededLimit | undefined {
    if (this.#sockets.size >= this.#perServer) return 'server';
    const peer = socket.remoteAddress ?? 'unknown';
    const address = addressGroup(peer);
    const count = this.#byAddress.get(address) ?? { address, sockets: 0 };
    if (count.sockets >= this.#perAddress && !ipInRanges(peer, this.#trusted)) return 'address';
    count.sockets += 1;
    this.#byAddress.set(address, count);
    this.#sockets.set(socket, count);
    return undefined;
  }

  remove(socket: Socket): void {
    const count = this.#sockets.get(socket);
    if (count === undefined) return;
    this.#sockets.delete(socket);
    count.sockets -= 1;
    if (count.sockets === 0) this.#byAddress.delete(count.address);
  }
}
