import type {
  ChangeSink,
  ChangeSource,
  OpenedStream,
  SinkMemo,
  WalBegin,
  WalRelation,
} from '../../postgres/change-source.js';
import type { StreamedChange } from './packed-changes.js';
import { comparePositions, type Position } from './position.js';
import { type History, type Notice, Slice } from './slice.js';

/** A slice takes no more than this, so that other work of the event loop comes between two. */
const SLICE_CHANGES = 512;
const SLICE_BYTES = 256 * 1024;
/** Transactions that are remembered by their numbers. */
const RECENT = 10_000;

export interface ChangeLogOptions {
  /** How much may wait for members, in bytes; beyond it PostgreSQL is not read on. */
  readonly maxBytes: number;
  /** Whether anybody subscribes to the table: what nobody wants is not kept. */
  readonly isWanted: (oid: number) => boolean;
  readonly tally: { changesRead: number };
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
  #slices: Slice[] = [];
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
  #isToldDown = false;
  #transaction: WalBegin | undefined;
  #index = 0;
  /** Changes that nobody wants, since the last one that was taken in. */
  #passed = 0;
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
  get handedOut(): Position | undefined {
    return this.#routed === this.#slices.length ? this.#last : undefined;
  }

  /**
   * Whether the transaction of the last change of the slice that was handed out last goes on with changes of one of these
   * tables, as far as is known: what is not read yet may have some.
   */
  goesOnWith({ commitLsn }: Position, isWatched: (oid: number) => boolean): boolean {
    for (const { changes } of this.#slices.slice(this.#routed)) {
      if (changes.count === 0 || changes.first.commitLsn !== commitLsn) return false;
      if (changes.relations.some(({ oid }) => isWatched(oid))) return true;
      if (changes.last.commitLsn !== commitLsn) return false;
    }
    return this.#transaction?.commitLsn === commitLsn;
  }

  /** The oldest slice that a member still has to take. */
  get oldest(): Slice | undefined {
    return this.#slices[0];
  }

  /** Whether what members have not taken yet fills half of it. */
  get isHeldUp(): boolean {
    const { maxBytes } = this.#options;
    return this.#paused && this.#routedBytes >= maxBytes / 2;
  }

  /** Whether some member has taken the newest slice that was handed out. */
  get isSomebodyCaughtUp(): boolean {
    return (this.#slices[this.#routed - 1]?.taken ?? 0) > 0;
  }

  /**
   * The next slice to hand out, waited for; undefined once the log has ended. The caller releases it when it has
   * handed it to everyone.
   */
  async next(): Promise<Slice | undefined> {
    while (!this.#isReady && !this.#hasEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#hasEnded) return undefined;
    const slice = this.#slices[this.#routed];
    this.#routed += 1;
    this.#routedBytes += slice?.changes.length ?? 0;
    return slice;
  }

  /** Transactions are handed out whole, but for those that are larger than a slice: their rest comes at once. */
  get #isReady(): boolean {
    const waiting = this.#slices.length - this.#routed;
    if (waiting !== 1) return waiting > 1;
    const last = this.#slices.at(-1)?.changes;
    const isOpen =
      last !== undefined && last.count > 0 && last.last.commitLsn === this.#transaction?.commitLsn;
    // Others do not wait for much that nobody wants.
    return !isOpen || this.#passed >= SLICE_CHANGES;
  }

  /** Nothing is handed out any more. */
  end(): void {
    this.#hasEnded = true;
    this.#wake?.();
  }

  /** Tells something behind all that came so far. */
  tell(notice: Notice): void {
    this.#append({ notice });
  }

  /** Somebody was told that the stream is down: when it opens, that is told too. */
  noteDown(): void {
    this.#isToldDown = true;
  }

  opened({ epoch, gap, memo, end }: OpenedStream): void {
    this.#isOpen = true;
    if (this.#isToldDown) this.tell({ event: 'database_up', payload: {} });
    this.#isToldDown = false;
    if (epoch === this.#epoch) return;
    this.#last = undefined;
    this.#epoch = epoch;
    this.#append({ history: { epoch, memo, end, ...(gap === undefined ? {} : { gap }) } });
  }

  closed(reason: string): void {
    this.#isOpen = false;
    this.#transaction = undefined;
    if (!this.#isToldDown) this.tell({ event: 'database_down', payload: { reason } });
    this.#isToldDown = true;
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
    if (this.#recent.size > RECENT) for (const oldest of this.#recent) if (this.#recent.delete(oldest)) break;
    this.#transaction = begin;
    this.#index = 0;
  }

  change(kind: 'insert' | 'update' | 'delete', relation: WalRelation, bytes: Buffer): void {
    this.#take(kind, relation, bytes);
  }

  truncate(relations: readonly WalRelation[]): void {
    for (const relation of relations) this.#take('truncate', relation);
  }

  message(content: Buffer): void {
    this.#take('message', undefined, content);
  }

  commit(endLsn: bigint): void {
    this.#transaction = undefined;
    const last = this.#slices.at(-1);
    if (last === undefined) this.#source?.acknowledge(endLsn);
    else last.endLsn = endLsn;
    this.#wakeUp();
  }

  /** Takes a change in, unless it came before or nobody wants it. */
  #take(kind: StreamedChange['kind'], relation: WalRelation | undefined, message?: Buffer): void {
    const transaction = this.#transaction;
    if (transaction === undefined) throw new Error('a change outside of a transaction');
    const place = { commitLsn: transaction.commitLsn, index: this.#index++ };
    this.#options.tally.changesRead += 1;
    if (this.#last !== undefined && comparePositions(place, this.#last) <= 0) return;
    this.#last = place;
    if (relation !== undefined && !this.#options.isWanted(relation.oid)) {
      this.#passed += 1;
      if (this.#passed === SLICE_CHANGES) this.#wakeUp();
      return;
    }
    this.#passed = 0;
    const slice = this.#open(message?.length ?? 0);
    const before = slice.changes.length;
    slice.changes.add(kind, relation, transaction, place.index, message);
    this.#bytes += slice.changes.length - before;
    if (!this.#paused && this.#bytes >= this.#options.maxBytes) {
      this.#paused = true;
      this.#source?.pause();
    }
  }

  /** The slice that takes the next change: the last one while it is not handed out and has room. */
  #open(bytes: number): Slice {
    const slice = this.#slices.at(-1);
    const isOpen =
      slice !== undefined &&
      this.#slices.length > this.#routed &&
      slice.notice === undefined &&
      slice.history === undefined &&
      slice.changes.count < SLICE_CHANGES &&
      slice.changes.length + bytes <= SLICE_BYTES;
    return isOpen ? slice : this.#append();
  }

  #append(told: { notice?: Notice; history?: History } = {}): Slice {
    const slice = new Slice(this.#epoch, told, () => this.#clear());
    this.#slices.push(slice);
    this.#wakeUp();
    return slice;
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Forgets what is done from the beginning on. */
  #clear(): void {
    let count = 0;
    let endLsn: bigint | undefined;
    for (const slice of this.#slices) {
      if (!slice.isDone) break;
      count += 1;
      this.#bytes -= slice.changes.length;
      this.#routedBytes -= slice.changes.length;
      endLsn = slice.endLsn ?? endLsn;
    }
    if (count === 0) return;
    this.#slices.splice(0, count);
    this.#routed -= count;
    if (endLsn !== undefined) this.#source?.acknowledge(endLsn);
    if (this.#paused && this.#bytes < this.#options.maxBytes / 2) {
      this.#paused = false;
      this.#source?.resume();
    }
  }
}
