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

/** A slice takes no more than this, so that other work of the event loop comes between two. */
const BATCH_CHANGES = 512;
const BATCH_BYTES = 256 * 1024;
/** Transactions that are remembered by their numbers. */
const RECENT_TRANSACTIONS = 10_000;

export interface ChangeLogOptions {
  /** How much may wait for members, in bytes; beyond it PostgreSQL is not read on. */
  readonly maxBytes: number;
  /** Whether anybody subscribes to the table: what nobody wants is not kept. */
  readonly isSubscribed: (oid: number) => boolean;
  readonly counters: { changesRead: number };
  /** What committed before `lsn` does not come again; answers what is to be kept beside that position. */
  readonly forget: (lsn: bigint) => SinkMemo;
}

type Source = Pick<ChangeSource, 'acknowledge' | 'pause' | 'resume'>;

/**
 * The changes that were read and that not every member has yet, in the order of commits, in slices. Shared by all
 * members and bounded: when it is full the source is paused. What is done from its beginning on is acknowledged.
 */
export class ChangeLog implements ChangeSink {
  readonly #options: ChangeLogOptions;
  #source: Source | undefined;
  #batches: ChangeBatch[] = [];
  /** How many slices, from the first, were handed to the router. */
  #routed = 0;
  #bytes = 0;
  /** Of these, what was handed to the router. */
  #routedBytes = 0;
  #paused = false;
  #wake: (() => void) | undefined;
  #epoch = '';
  #isOpen = false;
  #hasEnded = false;
  #isDownReported = false;
  #transaction: WalBegin | undefined;
  #index = 0;
  /** Changes that nobody wants, since the last one that was taken in. */
  #unsubscribedChanges = 0;
  /** The last transactions that were read. */
  readonly #recent = new Set<number>();
  /** The last change that was taken in, of this epoch: what comes again after a lost connection is skipped up to it. */
  #last: Position | undefined;

  constructor(options: ChangeLogOptions) {
    this.#options = options;
  }

  /** The source that is acknowledged to, and paused. */
  connect(source: Source): void {
    this.#source = source;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get epoch(): string {
    return this.#epoch;
  }

  /** Whether the stream is open. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** The last change that came, whether anybody wanted it or not; undefined while one waits to be handed out. */
  get idlePosition(): Position | undefined {
    return this.#routed === this.#batches.length ? this.#last : undefined;
  }

  /**
   * Whether the transaction of the last change of the slice that was handed out last goes on with changes of one of these
   * tables, as far as is known: what is not read yet may have some.
   */
  continuesTransaction({ commitLsn }: Position, isMembershipTable: (oid: number) => boolean): boolean {
    for (const { changes } of this.#batches.slice(this.#routed)) {
      if (changes.count === 0 || changes.first.commitLsn !== commitLsn) return false;
      if (changes.relations.some(({ oid }) => isMembershipTable(oid))) return true;
      if (changes.last.commitLsn !== commitLsn) return false;
    }
    return this.#transaction?.commitLsn === commitLsn;
  }

  /** The oldest slice that a member still has to take. */
  get oldest(): ChangeBatch | undefined {
    return this.#batches[0];
  }

  /** Whether what members have not taken yet fills half of it. */
  get isBlocked(): boolean {
    const { maxBytes } = this.#options;
    return this.#paused && this.#routedBytes >= maxBytes / 2;
  }

  /** Whether some member has taken the newest slice that was handed out. */
  get hasCaughtUpMember(): boolean {
    return (this.#batches[this.#routed - 1]?.received ?? 0) > 0;
  }

  /**
   * The next slice to hand out, waited for; undefined once the log has ended. The caller releases it when it has
   * handed it to everyone.
   */
  async next(): Promise<ChangeBatch | undefined> {
    while (!this.#isReady && !this.#hasEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#hasEnded) return undefined;
    const batch = this.#batches[this.#routed];
    this.#routed += 1;
    this.#routedBytes += batch?.changes.length ?? 0;
    return batch;
  }

  /** Transactions are handed out whole, but for those that are larger than a slice: their rest comes at once. */
  get #isReady(): boolean {
    const waiting = this.#batches.length - this.#routed;
    if (waiting !== 1) return waiting > 1;
    const last = this.#batches.at(-1)?.changes;
    const isOpen =
      last !== undefined && last.count > 0 && last.last.commitLsn === this.#transaction?.commitLsn;
    // Others do not wait for much that nobody wants.
    return !isOpen || this.#unsubscribedChanges >= BATCH_CHANGES;
  }

  /** Nothing is handed out any more. */
  end(): void {
    this.#hasEnded = true;
    this.#wake?.();
  }

  /** Tells something behind all that came so far. */
  announce(streamEvent: StreamEvent): void {
    this.#addBatch({ streamEvent });
  }

  /** Somebody was told that the stream is down: when it opens, that is told too. */
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

  /** Whether a transaction was read of late, by the number that the log gives it. */
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

  commit(endLsn: bigint): void {
    this.#transaction = undefined;
    const last = this.#batches.at(-1);
    if (last === undefined) this.#source?.acknowledge(endLsn);
    else last.endLsn = endLsn;
    this.#wakeUp();
  }

  /** Takes a change in, unless it came before or nobody wants it. */
  #addChange(kind: StreamedChange['kind'], relation: WalRelation | undefined, message?: Buffer): void {
    const transaction = this.#transaction;
    if (transaction === undefined) throw new Error('a change outside of a transaction');
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
    }
  }

  /** The slice that takes the next change: the last one while it is not handed out and has room. */
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

  /** Forgets what is done from the beginning on. */
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
