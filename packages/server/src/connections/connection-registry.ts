import { ProtocolError } from '@goforward/realtime-protocol';
import type { Connection } from './connection.js';

export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerUser: number;
  readonly maxConnectionsPerIp: number;
}

/** Counts in all, by user and by address. */
class Counts {
  total = 0;
  readonly byUser = new Map<string, number>();
  readonly byAddress = new Map<string, number>();

  change(userId: string | null, address: string, by: 1 | -1): void {
    this.total += by;
    if (userId !== null) count(this.byUser, userId, by);
    count(this.byAddress, address, by);
  }
}

/** Holds all connections of this node and counts them by user and by address. */
export class ConnectionRegistry {
  readonly #limits: ConnectionLimits;
  readonly #connections = new Set<Connection>();
  readonly #open = new Counts();
  /** Handshakes that wait, for example for a channel that is being created. */
  readonly #waiting = new Counts();

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
    return this.#open.byUser;
  }

  /** Throws CONNECTION_LIMIT_REACHED when the server, this user or this address is at its limit. */
  requireRoom(userId: string | null, address: string): void {
    for (const [of, limit, countIn] of this.#limitsOf(userId, address))
      if (countIn(this.#open) >= limit) throw full(of, limit);
  }

  /**
   * Waits with a handshake, which counts as a connection meanwhile. Throws CONNECTION_LIMIT_REACHED if those that wait
   * already would exceed a limit.
   */
  async whileCounted(userId: string | null, address: string, wait: () => Promise<void>): Promise<void> {
    for (const [of, limit, countIn] of this.#limitsOf(userId, address)) {
      const waiting = countIn(this.#waiting);
      if (waiting > 0 && waiting + countIn(this.#open) >= limit) throw full(of, limit);
    }
    this.#waiting.change(userId, address, 1);
    try {
      await wait();
    } finally {
      this.#waiting.change(userId, address, -1);
    }
  }

  add(connection: Connection): void {
    this.#connections.add(connection);
    this.#open.change(connection.userId, connection.address, 1);
  }

  remove(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    this.#open.change(connection.userId, connection.address, -1);
  }

  #limitsOf(userId: string | null, address: string) {
    const { maxConnections, maxConnectionsPerUser, maxConnectionsPerIp } = this.#limits;
    return [
      ['server', maxConnections, ({ total }: Counts) => total],
      ['user', maxConnectionsPerUser, ({ byUser }: Counts) => byUser.get(userId ?? '') ?? 0],
      ['address', maxConnectionsPerIp, ({ byAddress }: Counts) => byAddress.get(address) ?? 0],
    ] as const;
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
