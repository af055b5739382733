import type { Log } from '../../lib/log.js';
import { formatLsn, type Lsn } from '../sql/lsn.js';
import type { AcknowledgementDelay, Mark } from './acknowledgement-delay.js';
import type { ChangeSink } from './change-source.js';
import type { StreamState, StreamStateStore } from './stream-state-store.js';

/** How often the position is stored and acknowledged, in ms. */
const INTERVAL_MS = 1_000;
/** Progress without a transaction of interest is stored only when it exceeds this many bytes. */
const IDLE_BYTES = 1024 * 1024;

export interface AcknowledgementParts {
  readonly store: StreamStateStore;
  readonly state: StreamState;
  readonly receiver: {
    /** Everything before this position is delivered. */
    readonly safe: Lsn;
    readonly walEnd: Lsn;
    /** How many transactions of interest are delivered. */
    readonly transactions: number;
  };
  readonly connection: { acknowledge(lsn: Lsn): void; close(): void };
  readonly window: AcknowledgementDelay;
  readonly sink: Pick<ChangeSink, 'forget'>;
  readonly log: Log;
}

/**
 * Acknowledges delivered positions once they have left the resume window. It stores a position first and
 * acknowledges it after: so a slot that is ahead of the stored position was advanced by another client, and
 * changes are lost.
 */
export class Acknowledgement {
  readonly #parts: AcknowledgementParts;
  #stored: Lsn;
  #storedTransactions = 0;
  /** The newest mark that has left the window, stored or not. */
  #passed: Mark | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isBusy = false;

  constructor(parts: AcknowledgementParts) {
    this.#parts = parts;
    this.#stored = parts.state.acknowledged;
  }

  /** The stored position, at which the stream starts, in PostgreSQL's notation. */
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
    // Storing the position writes WAL itself: storing every small advance would never end.
    const isWorthStoring =
      passed.transactions > this.#storedTransactions || passed.lsn - this.#stored >= IDLE_BYTES;
    if (!isWorthStoring) return;
    this.#isBusy = true;
    try {
      await this.#acknowledge(passed);
    } catch (error) {
      this.#parts.log.debug({ err: error }, 'Storing the position of the stream failed; retrying');
    } finally {
      this.#isBusy = false;
    }
  }

  async #acknowledge({ lsn, transactions }: Mark): Promise<void> {
    const { store, state, connection, sink, log } = this.#parts;
    if (!(await store.acknowledge(state, lsn, sink.forget(lsn)))) {
      log.error({ slot: state }, 'Another server wrote the position of the stream; closing this stream');
      connection.close();
      return;
    }
    this.#stored = lsn;
    this.#storedTransactions = transactions;
    connection.acknowledge(lsn);
  }
}
