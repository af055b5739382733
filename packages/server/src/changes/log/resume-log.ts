import type { Log } from '../../lib/log.js';
import { comparePositions, laterPosition, type Position } from '../model/position.js';
import type { PackedChanges, StreamedChange } from './packed-changes.js';
import type { StoredRange, WindowFile } from './window-file.js';

export interface ResumeLogOptions {
  /** The bytes to keep in memory; the rest is in files. */
  readonly maxBytes: number;
  /** The bytes to keep in files; older changes are dropped. */
  readonly maxFileBytes: number;
  readonly file: Pick<WindowFile, 'store' | 'read' | 'remove' | 'bytes'>;
  readonly log: Log;
}

/** Consecutive changes that are stored and read together. */
interface Segment {
  readonly changes: PackedChanges;
  /** Where its bytes are in a file; undefined while they are in memory. */
  range: StoredRange | undefined;
}

/** A page of changes. It is complete up to the position `end`. */
export interface Page {
  readonly changes: readonly StreamedChange[];
  readonly end: Position;
}

/** The newest change of each table, by oid, that is no longer kept. */
export type Forgotten = ReadonlyMap<number, Position>;

const SEGMENT_CHANGES = 512;
const SEGMENT_BYTES = 256 * 1024;

/**
 * Keeps the changes that were delivered but not acknowledged to PostgreSQL. Clients that resume read here what they
 * missed. After a crash it has the same changes, because PostgreSQL sends these again.
 */
export class ResumeLog {
  readonly #options: ResumeLogOptions;
  #segments: Segment[] = [];
  /** How many segments, from the first, are in files. */
  #stored = 0;
  #memory = 0;
  #forgotten = new Map<number, Position>();
  #isFileBroken = false;

  constructor(options: ResumeLogOptions) {
    this.#options = options;
  }

  /** How many bytes are kept in memory and in files. */
  get bytes(): { readonly memory: number; readonly file: number } {
    return { memory: this.#memory, file: this.#options.file.bytes };
  }

  get forgotten(): Forgotten {
    return this.#forgotten;
  }

  /** Empties the log for another epoch. `forgotten`: changes of that epoch that are no longer kept. */
  reset(forgotten: Forgotten): void {
    for (const { range } of this.#segments) if (range !== undefined) this.#options.file.remove(range);
    this.#segments = [];
    this.#stored = 0;
    this.#memory = 0;
    this.#forgotten = new Map(forgotten);
  }

  /** Appends changes that were delivered. */
  append(changes: PackedChanges): void {
    if (changes.count === 0) return;
    const last = this.#segments.at(-1);
    const fits =
      last !== undefined &&
      last.range === undefined &&
      last.changes.count + changes.count <= SEGMENT_CHANGES &&
      last.changes.length + changes.length <= SEGMENT_BYTES;
    if (fits) {
      const before = last.changes.length;
      last.changes.addAll(changes);
      this.#memory += last.changes.length - before;
    } else {
      last?.changes.trim();
      changes.trim();
      this.#segments.push({ changes, range: undefined });
      this.#memory += changes.length;
    }
    this.#store();
  }

  /** Records that changes of a table before `position` may never have been in the stream. */
  markMissed(oid: number, position: Position): void {
    this.#forgotten.set(oid, laterPosition(position, this.#forgotten.get(oid) ?? position));
  }

  /** Returns whether no change of these tables after the position is missing. */
  covers(position: Position, oids: Iterable<number>): boolean {
    for (const oid of oids) {
      const gone = this.#forgotten.get(oid);
      if (gone !== undefined && comparePositions(position, gone) < 0) return false;
    }
    return true;
  }

  /** Reads the next changes after a position; undefined if there are none. */
  async read(after: Position): Promise<Page | undefined> {
    const segment = this.#segments[this.#indexAfter(after)];
    if (segment === undefined) return undefined;
    const { changes, range } = segment;
    // Taken before the file is read: a stored segment does not grow, but it can be dropped meanwhile.
    const end = changes.last;
    const bytes = range === undefined ? undefined : await this.#options.file.read(range);
    return { changes: changes.read(after, bytes), end };
  }

  /** Returns whether changes after the position are kept. */
  hasAfter(position: Position): boolean {
    return this.#indexAfter(position) < this.#segments.length;
  }

  /** Drops segments whose changes all committed before an LSN. */
  forget(lsn: bigint): void {
    let count = 0;
    for (const { changes } of this.#segments) {
      if (changes.last.commitLsn >= lsn) break;
      count += 1;
    }
    this.#drop(count);
  }

  /** Returns the index of the first segment that has changes after a position. */
  #indexAfter(position: Position): number {
    let low = 0;
    let high = this.#segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const segment = this.#segments[middle];
      if (segment !== undefined && comparePositions(segment.changes.last, position) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Moves the oldest changes to files until the rest fits into memory. Drops what cannot be written. */
  #store(): void {
    while (this.#memory > this.#options.maxBytes && this.#segments.length - this.#stored > 1) {
      const segment = this.#segments[this.#stored];
      if (segment === undefined) return;
      try {
        segment.range = this.#options.file.store(segment.changes.bytes);
      } catch (error) {
        this.#dropUnstored(error);
        continue;
      }
      this.#isFileBroken = false;
      this.#memory -= segment.changes.length;
      segment.changes.release();
      this.#stored += 1;
      while (this.#options.file.bytes > this.#options.maxFileBytes && this.#stored > 0) this.#drop(1);
    }
  }

  #dropUnstored(error: unknown): void {
    if (!this.#isFileBroken)
      this.#options.log.warn(
        { err: error },
        'Resume window could not be written to its file: clients that missed more than memory holds will get a gap',
      );
    this.#isFileBroken = true;
    this.#drop(this.#stored + 1);
  }

  /** Drops the first segments, and records the last dropped change of each table. */
  #drop(count: number): void {
    for (const { changes, range } of this.#segments.slice(0, count)) {
      for (const [oid, last] of changes.lastByTable()) this.#forgotten.set(oid, last);
      if (range === undefined) this.#memory -= changes.length;
      else this.#options.file.remove(range);
    }
    this.#segments.splice(0, count);
    this.#stored = Math.max(0, this.#stored - count);
  }
}
