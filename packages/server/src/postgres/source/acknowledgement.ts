import type { Log } from '../../lib/log.js';
import type { ReplicationConnection } from '../replication/replication-connection.js';
import type { WalReceiver } from '../replication/wal-receiver.js';
import { formatLsn, type Lsn } from '../sql/lsn.js';
import type { ChangeSink } from './change-source.js';
import type { Mark, ResumeWindow } from './resume-window.js';
import type { StreamState, StreamStateStore } from './stream-state.js';

/** How often what is done is stored and acknowledged, in ms. */
const INTERVAL_MS = 1_000;
/** Positions that moved without a transaction for us are only worth a write of our own when they moved so far, in bytes. */
const IDLE_BYTES = 1024 * 1024;

export interface AcknowledgementParts {
  readonly store: StreamStateStore;
  readonly state: StreamState;
  readonly receiver: Pick<WalReceiver, 'safe' | 'walEnd' | 'transactions'>;
  readonly connection: Pick<ReplicationConnection, 'acknowledge' | 'close'>;
  readonly window: ResumeWindow;
  readonly sink: Pick<ChangeSink, 'forget'>;
  readonly log: Log;
}

/**
 * Tells PostgreSQL how far everything is done, when the resume window has passed over it: stored first, acknowledged
 * after, so that a position that PostgreSQL has and we have not is never ours.
 */
export class Acknowledgement {
  readonly #parts: AcknowledgementParts;
  #stored: Lsn;
  #storedTransactions = 0;
  /** What the window has passed over and was not worth a write yet. */
  #passed: Mark | undefined;
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
    const { receiver, window } = this.#parts;
    const now = performance.now();
    window.mark({ lsn: receiver.safe, at: now, transactions: receiver.transactions });
    this.#passed = window.passed(now, receiver.walEnd) ?? this.#passed;
    const passed = this.#passed;
    if (this.#isBusy || passed === undefined || passed.lsn <= this.#stored) return;
    // Our own writes move the log as well: following each of them would never end.
    const isWorthIt =
      passed.transactions > this.#storedTransactions || passed.lsn - this.#stored >= IDLE_BYTES;
    if (!isWorthIt) return;
    this.#isBusy = true;
    try {
      await this.#acknowledge(passed);
    } catch (error) {
      this.#parts.log.debug({ err: error }, 'The position of the stream could not be stored');
    } finally {
      this.#isBusy = false;
    }
  }

  async #acknowledge({ lsn, transactions }: Mark): Promise<void> {
    const { store, state, connection, sink, log } = this.#parts;
    if (!(await store.acknowledge(state, lsn, sink.forget(lsn)))) {
      log.error({ slot: state }, 'Another server has written the position of the stream');
      connection.close();
      return;
    }
    this.#stored = lsn;
    this.#storedTransactions = transactions;
    connection.acknowledge(lsn);
  }
}
