import type { Identity } from '../auth/identity.js';
import { rateLimitExceeded } from '../channels/rate-limit.js';
import { SerialQueue } from '../lib/serial-queue.js';

/** Requests and their bytes. */
interface Amount {
  readonly requests: number;
  readonly bytes: number;
}

export interface PendingLimits {
  readonly perConnection: Amount;
  /** Of all connections and HTTP requests of a user together. */
  readonly perUser: Amount;
}

/** A connection, or one HTTP request. */
export interface Requester {
  readonly identity: Pick<Identity, 'limitedAs'>;
}

const KB = 1024;
export const PENDING_LIMITS: PendingLimits = {
  perConnection: { requests: 16, bytes: 256 * KB },
  perUser: { requests: 64, bytes: 1024 * KB },
};
/** When a refused request is worth another try, in ms. */
const RETRY_AFTER_MS = 1_000;

/** The reason of a request that is not carried out, because its connection has closed. Nobody gets it as an answer. */
export class RequestDropped extends Error {
  constructor() {
    super('the connection of the request has closed');
    this.name = 'RequestDropped';
  }
}

/** What is pending of one connection. */
class ConnectionWork {
  requests = 0;
  bytes = 0;
  readonly closed = new AbortController();
  readonly lanes = new Map<string, SerialQueue>();

  laneOf(name: string): SerialQueue {
    const lane = this.lanes.get(name) ?? new SerialQueue();
    this.lanes.set(name, lane);
    return lane;
  }
}

/**
 * Bounds the requests that wait for PostgreSQL, by connection and by user. What a closed connection asked for is dropped:
 * waiting requests never start, and the signal of running ones aborts.
 */
export class PendingWork {
  readonly #limits: PendingLimits;
  readonly #byConnection = new Map<Requester, ConnectionWork>();
  readonly #byUser = new Map<string, { requests: number; bytes: number }>();

  constructor(limits: PendingLimits = PENDING_LIMITS) {
    this.#limits = limits;
  }

  /** How many requests are pending. */
  get size(): number {
    let size = 0;
    for (const { requests } of this.#byUser.values()) size += requests;
    return size;
  }

  /**
   * Runs a request; those of one connection and lane run one at a time, in order. `bytes`: what it keeps in memory, about.
   * Its signal aborts when the connection has closed. Throws RATE_LIMIT_EXCEEDED if too much is pending.
   */
  run<T>(
    from: Requester,
    lane: string,
    bytes: number,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { perConnection, perUser } = this.#limits;
    const user = from.identity.limitedAs;
    const own = this.#byConnection.get(from) ?? new ConnectionWork();
    const ofUser = this.#byUser.get(user) ?? { requests: 0, bytes: 0 };
    requireRoom('connection', own, bytes, perConnection);
    requireRoom('user', ofUser, bytes, perUser);
    this.#byConnection.set(from, own);
    this.#byUser.set(user, ofUser);
    for (const account of [own, ofUser]) add(account, 1, bytes);
    const { signal } = own.closed;
    return own
      .laneOf(lane)
      .run(() => work(signal))
      .finally(() => {
        for (const account of [own, ofUser]) add(account, -1, -bytes);
        if (own.requests === 0 && this.#byConnection.get(from) === own) this.#byConnection.delete(from);
        if (ofUser.requests === 0) this.#byUser.delete(user);
      });
  }

  /** Drops all requests of a connection that has closed. What still runs counts for its user until it has ended. */
  drop(from: Requester): void {
    const own = this.#byConnection.get(from);
    if (own === undefined) return;
    this.#byConnection.delete(from);
    const reason = new RequestDropped();
    for (const lane of own.lanes.values()) lane.drop(reason);
    own.closed.abort(reason);
  }
}

function add(account: { requests: number; bytes: number }, requests: number, bytes: number): void {
  account.requests += requests;
  account.bytes += bytes;
}

/** A single request may be larger than the limit: how large messages may be is another setting. */
function requireRoom(of: string, pending: Amount, bytes: number, limit: Amount): void {
  if (pending.requests === 0) return;
  if (pending.requests < limit.requests && pending.bytes + bytes <= limit.bytes) return;
  throw rateLimitExceeded(
    RETRY_AFTER_MS,
    `More than ${limit.requests} requests or ${limit.bytes / KB} kB of this ${of} wait for PostgreSQL`,
  );
}
