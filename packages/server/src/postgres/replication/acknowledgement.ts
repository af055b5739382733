import type { Log } from '../../lib/log.js';
import { formatLsn, type Lsn } from './lsn.js';
import type { ReplicationConnection } from './replication-connection.js';
import type { StreamState, StreamStateStore } from './stream-state.js';
import type { WalReceiver } from './wal-receiver.js';

/** How often what is done is stored and acknowledged, in ms. */
const INTERVAL_MS = 1_000;
/** Positions that moved without a transaction for us are only worth a write of our own when they moved so far, in bytes. */
const IDLE_BYTES = 1024 * 1024;

export interface AcknowledgementParts {
  readonly store: StreamStateStore;
  readonly state: StreamState;
  readonly receiver: WalReceiver;
  readonly connection: ReplicationConnection;
  readonly log: Log;
}

/**
 * Tells PostgreSQL how far everything is done: stored first, acknowledged after, so that a position that PostgreSQL has
 * and we have not is never ours.
 */
export class Acknowledgement {
  readonly #parts: AcknowledgementParts;
  #stored: Lsn;
  #timer: NodeJS.Timeout | undefined;
  #isBusy = false;

  constructor(parts: AcknowledgementParts) {
    this.#parts = parts;
    this.#stored = parts.state.acknowledged;
  }

  /** Where the stream is to begin. */
  get position(): string {
    return formatLsn(this.#stored);
  }

  start(): void {
    this.#timer = setInterval(() => void this.#advance(), INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #advance(): Promise<void> {
    const { store, state, receiver, connection, log } = this.#parts;
    const { safe, hasTransactions } = receiver;
    // Our own writes move the log as well: following each of them would never end.
    const isWorthIt = hasTransactions || safe - this.#stored >= IDLE_BYTES;
    if (this.#isBusy || safe <= this.#stored || !isWorthIt) return;
    this.#isBusy = true;
    try {
      if (!(await store.acknowledge(state, safe))) {
        log.error({ slot: state }, 'Another server has written the position of the stream');
        connection.close();
        return;
      }
      this.#stored = safe;
      receiver.stored();
      connection.acknowledge(safe);
    } catch (error) {
      log.debug({ err: error }, 'The position of the stream could not be stored');
    } finally {
      this.#isBusy = false;
    }
  }
}
