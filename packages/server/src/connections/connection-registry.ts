import { ProtocolError } from '@goforward/realtime-protocol';
import type { Connection } from './connection.js';

export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerUser: number;
  readonly maxConnectionsPerIp: number;
}

/** Holds all connections of this node and counts them by user and by address. */
export class ConnectionRegistry {
  readonly #limits: ConnectionLimits;
  readonly #connections = new Set<Connection>();
  readonly #byUser = new Map<string, number>();
  readonly #byAddress = new Map<string, number>();

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#connections.size;
  }

  all(): Iterable<Connection> {
    return this.#connections;
  }

  /** Number of connections by user id. */
  get byUser(): ReadonlyMap<string, number> {
    return this.#byUser;
  }

  /** Throws CONNECTION_LIMIT_REACHED when the server, this user or this address is at its limit. */
  requireRoom(userId: string | null, address: string): void {
    const { maxConnections, maxConnectionsPerUser, maxConnectionsPerIp } = this.#limits;
    if (this.#connections.size >= maxConnections) throw full('server', maxConnections);
    if (userId !== null && (this.#byUser.get(userId) ?? 0) >= maxConnectionsPerUser) {
      throw full('user', maxConnectionsPerUser);
    }
    if ((this.#byAddress.get(address) ?? 0) >= maxConnectionsPerIp)
      throw full('address', maxConnectionsPerIp);
  }

  add(connection: Connection): void {
    this.#connections.add(connection);
    count(this.#byUser, connection.userId, 1);
    count(this.#byAddress, connection.address, 1);
  }

  remove(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    count(this.#byUser, connection.userId, -1);
    count(this.#byAddress, connection.address, -1);
  }
}

function count(counts: Map<string, number>, key: string, by: number): void {
  const sum = (counts.get(key) ?? 0) + by;
  if (sum > 0) counts.set(key, sum);
  else counts.delete(key);
}

function full(of: string, limit: number): ProtocolError {
  return new ProtocolError('CONNECTION_LIMIT_REACHED', {
    details: `The ${of} has ${limit} connections`,
    fields: { limit },
  });
}
