import type {
  ChangeSink,
  ChangeSource,
  OpenedStream,
  SinkMemo,
  WalBegin,
  WalRelation,
} from '../../postgres/source/change-source.js';
import { comparePositions, type Position } from '../model/position.js';
import { ChangeBatch, type EpochStart, type StreamEvent } from './change-batch.js';
import type { StreamedChange } from './packed-changes.js';

/** The largest batch: between two batches the event loop does other work. */
const BATCH_CHANGES = 512;
const BATCH_BYTES = 256 * 1024;
/** How many of the last transactions `hasRead` knows. */
const RECENT_TRANSACTIONS = 10_000;

export interface ChangeLogOptions {
  /** How many bytes may wait for members. When it is reached, reading from PostgreSQL pauses. */
  readonly maxBytes: number;
  /** Whether the table has subscriptions. Changes of other tables are not kept. */
  readonly isSubscribed: (oid: number) => boolean;
  readonly counters: { changesRead: number };
  /** Called when nothing that committed before `lsn` is sent again. Returns what to store with that position. */
  readonly forget: (lsn: bigint) => SinkMemo;
}

type Source = Pick<ChangeSource, 'acknowledge' | 'pause' | 'resume'>;

/**
 * Holds the changes that were read and that not every member has received yet, in batches and in commit order. Shared
 * by all members and bounded: when it is full, it pauses the source. It acknowledges batches once they and all before
 * them are done.
 */
export class ChangeLog implements ChangeSink {
  readonly #options: ChangeLogOptions;
  #source: Source | undefined;
  #batches: ChangeBatch[] = [];
  /** How many batches, from the first, the router has taken. */
  #routed = 0;
  #bytes = 0;
  /** How many of these bytes the router has taken. */
  #routedBytes = 0;
  #paused = false;
  #wake: (() => void) | undefined;
  #epoch = '';
  #isOpen = false;
  #hasEnded = false;
  #isDownReported = false;
  #transaction: WalBegin | undefined;
  #index = 0;
  /** Changes of tables without subscriptions since the last change that was added. */
  #unsubscribedChanges = 0;
  /** The xids of the last transactions that were read. */
  readonly #recent = new Set<number>();
  /** The last change read in this epoch. Changes sent again after a lost connection are skipped up to it. */
  #last: Position | undefined;

  constructor(options: ChangeLogOptions) {
    this.#options = options;
  }

  /** Sets the source that the log pauses and acknowledges to. */
  connect(source: Source): void {
    this.#source = source;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get epoch(): string {
    return this.#epoch;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** The last change read, of any table; undefined while a change waits for the router. */
  get idlePosition(): Position | undefined {
    return this.#routed === this.#batches.length ? this.#last : undefined;
  }

  /**
   * Returns whether the transaction of the last change that the router took continues with changes of a membership
   * table. True also while the transaction is still being read, since what follows may have such changes.
   */
  continuesTransaction({ commitLsn }: Position, isMembershipTable: (oid: number) => boolean): boolean {
    for (const { changes } of this.#batches.slice(this.#routed)) {
      if (changes.count === 0 || changes.first.commitLsn !== commitLsn) return false;
      if (changes.relations.some(({ oid }) => isMembershipTable(oid))) return true;
      if (changes.last.commitLsn !== commitLsn) return false;
    }
    return this.#transaction?.commitLsn === commitLsn;
  }

  /** The oldest batch that is not done. */
  get oldest(): ChangeBatch | undefined {
    return this.#batches[0];
  }

  /** Whether the log is full and changes that members have not received fill at least half of it. */
  get isBlocked(): boolean {
    const { maxBytes } = this.#options;
    return this.#paused && this.#routedBytes >= maxBytes / 2;
  }

  /** Whether some member has received the newest batch that the router has taken. */
  get hasCaughtUpMember(): boolean {
    return (this.#batches[this.#routed - 1]?.received ?? 0) > 0;
  }

  /**
   * Waits for the next batch to deliver; undefined once the log has ended. The caller releases the batch when each
   * recipient has retained it.
   */
  async next(): Promise<ChangeBatch | undefined> {
    while (!this.#isReady && !this.#hasEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#hasEnded) return undefined;
    const batch = this.#batches[this.#routed];
    const open = this.#transaction;
    if (open !== undefined && batch?.endsWith(open.commitLsn) === true) batch.catalogXids.push(open.xid);
    this.#routed += 1;
    this.#routedBytes += batch?.changes.length ?? 0;
    return batch;
  }

  /** Whether a batch can be delivered. A transaction is delivered whole unless it is larger than a batch. */
  get #isReady(): boolean {
    const waiting = this.#batches.length - this.#routed;
    if (waiting !== 1) return waiting > 1;
    const open = this.#transaction;
    const isOpen = open !== undefined && this.#batches.at(-1)?.endsWith(open.commitLsn) === true;
    // Earlier transactions do not wait while many changes without subscriptions are read. One change can fill the log: the
    // rest of its transaction is read only after it has been delivered.
    return !isOpen || this.#paused || this.#unsubscribedChanges >= BATCH_CHANGES;
  }

  /** Ends delivery: `next` returns undefined from now on. */
  end(): void {
    this.#hasEnded = true;
    this.#wake?.();
  }

  /** Appends a stream event after everything read so far. */
  announce(streamEvent: StreamEvent): void {
    this.#addBatch({ streamEvent });
  }

  /** Records that `database_down` was sent, so that `database_up` follows when the stream opens. */
  markDownReported(): void {
    this.#isDownReported = true;
  }

  opened({ epoch, gap, memo, end }: OpenedStream): void {
    this.#isOpen = true;
    if (this.#isDownReported) this.announce({ event: 'database_up', payload: {} });
    this.#isDownReported = false;
    if (epoch === this.#epoch) return;
    this.#last = undefined;
    this.#epoch = epoch;
    this.#addBatch({ epochStart: { epoch, memo, end, ...(gap === undefined ? {} : { gap }) } });
  }

  closed(reason: string): void {
    this.#isOpen = false;
    this.#transaction = undefined;
    if (!this.#isDownReported) this.announce({ event: 'database_down', payload: { reason } });
    this.#isDownReported = true;
  }

  forget(lsn: bigint): SinkMemo {
    return this.#options.forget(lsn);
  }

  /** Returns whether a transaction was read recently; `xid`: its lower 32 bits, as in the WAL. */
  hasRead(xid: number): boolean {
    return this.#recent.has(xid);
  }

  begin(begin: WalBegin): void {
    this.#recent.add(begin.xid);
    if (this.#recent.size > RECENT_TRANSACTIONS)
      for (const oldest of this.#recent) if (this.#recent.delete(oldest)) break;
    this.#transaction = begin;
    this.#index = 0;
  }

  change(kind: 'insert' | 'update' | 'delete', relation: WalRelation, bytes: Buffer): void {
    this.#addChange(kind, relation, bytes);
  }

  truncate(relations: readonly WalRelation[]): void {
    for (const relation of relations) this.#addChange('truncate', relation);
  }

  message(content: Buffer): void {
    this.#addChange('message', undefined, content);
  }

  commit(endLsn: bigint, mayHaveChangedCatalog: boolean): void {
    if (mayHaveChangedCatalog) this.#markCatalogChange();
    this.#transaction = undefined;
    const last = this.#batches.at(-1);
    if (last === undefined) this.#source?.acknowledge(endLsn);
    else last.endLsn = endLsn;
    this.#wakeUp();
  }

  /** Notes the open transaction in the waiting batches that have changes of it. */
  #markCatalogChange(): void {
    const { commitLsn, xid } = this.#openTransaction;
    for (let n = this.#batches.length - 1; n >= this.#routed; n--) {
      const batch = this.#batches[n];
      if (batch?.endsWith(commitLsn) === true) batch.catalogXids.push(xid);
      else if (batch !== undefined && batch.changes.count > 0) return;
    }
  }

  get #openTransaction(): WalBegin {
    if (this.#transaction === undefined) throw new Error('no transaction is open');
    return this.#transaction;
  }

  /** Adds a change, unless it was read before or its table has no subscriptions. */
  #addChange(kind: StreamedChange['kind'], relation: WalRelation | undefined, message?: Buffer): void {
    const transaction = this.#openTransaction;
    const position = { commitLsn: transaction.commitLsn, index: this.#index++ };
    this.#options.counters.changesRead += 1;
    if (this.#last !== undefined && comparePositions(position, this.#last) <= 0) return;
    this.#last = position;
    if (relation !== undefined && !this.#options.isSubscribed(relation.oid)) {
      this.#unsubscribedChanges += 1;
      if (this.#unsubscribedChanges === BATCH_CHANGES) this.#wakeUp();
      return;
    }
    this.#unsubscribedChanges = 0;
    const batch = this.#openBatch(message?.length ?? 0);
    const before = batch.changes.length;
    batch.changes.add(kind, relation, transaction, position.index, message);
    this.#bytes += batch.changes.length - before;
    if (!this.#paused && this.#bytes >= this.#options.maxBytes) {
      this.#paused = true;
      this.#source?.pause();
      this.#wakeUp();
    }
  }

  /** Returns the batch for the next change: the last one if the router has not taken it and it has space. */
  #openBatch(bytes: number): ChangeBatch {
    const batch = this.#batches.at(-1);
    const isOpen =
      batch !== undefined &&
      this.#batches.length > this.#routed &&
      batch.streamEvent === undefined &&
      batch.epochStart === undefined &&
      batch.changes.count < BATCH_CHANGES &&
      batch.changes.length + bytes <= BATCH_BYTES;
    return isOpen ? batch : this.#addBatch();
  }

  #addBatch(content: { streamEvent?: StreamEvent; epochStart?: EpochStart } = {}): ChangeBatch {
    const batch = new ChangeBatch(this.#epoch, content, () => this.#dropReceived());
    this.#batches.push(batch);
    this.#wakeUp();
    return batch;
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Drops the batches that are done, from the first, and acknowledges their transactions. */
  #dropReceived(): void {
    let count = 0;
    let endLsn: bigint | undefined;
    for (const batch of this.#batches) {
      if (!batch.isDone) break;
      count += 1;
      this.#bytes -= batch.changes.length;
      this.#routedBytes -= batch.changes.length;
      endLsn = batch.endLsn ?? endLsn;
    }
    if (count === 0) return;
    this.#batches.splice(0, count);
    this.#routed -= count;
    if (endLsn !== undefined) this.#source?.acknowledge(endLsn);
    if (this.#paused && this.#bytes < this.#options.maxBytes / 2) {
      this.#paused = false;
      this.#source?.resume();
    }
  }
}
