import type { Log } from '../../lib/log.js';
import { comparePositions, laterOf, type Position } from '../model/position.js';
import type { PackedChanges, StreamedChange } from './packed-changes.js';
import type { StoredRange, WindowFile } from './window-file.js';

export interface ResumeLogOptions {
  /** How many bytes are kept in memory; the rest is in files. */
  readonly maxBytes: number;
  /** How many bytes are kept in files; what is older is let go. */
  readonly maxFileBytes: number;
  readonly file: Pick<WindowFile, 'store' | 'read' | 'remove' | 'bytes'>;
  readonly log: Log;
}

/** A run of changes that are kept and read together. */
interface Segment {
  readonly changes: PackedChanges;
  /** Set when its bytes are in a file. */
  range: StoredRange | undefined;
}

/** A page of changes, and the position up to which it tells everything. */
export interface Page {
  readonly changes: readonly StreamedChange[];
  readonly end: Position;
}

/** The newest change of each table, by oid, that is not kept any more. */
export type Forgotten = ReadonlyMap<number, Position>;

const SEGMENT_CHANGES = 512;
const SEGMENT_BYTES = 256 * 1024;

/**
 * The changes that were handed out and that PostgreSQL has not been told of: whoever was away reads here what it
 * missed. It has the same changes after a crash, since these are what PostgreSQL sends again.
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

  /** Bytes of changes that are kept, in memory and in files. */
  get bytes(): { readonly memory: number; readonly file: number } {
    return { memory: this.#memory, file: this.#options.file.bytes };
  }

  get forgotten(): Forgotten {
    return this.#forgotten;
  }

  /** Begins anew with another history: `forgotten` is what of it was there before and is not kept. */
  reset(forgotten: Forgotten): void {
    for (const { range } of this.#segments) if (range !== undefined) this.#options.file.remove(range);
    this.#segments = [];
    this.#stored = 0;
    this.#memory = 0;
    this.#forgotten = new Map(forgotten);
  }

  /** Keeps changes that were handed out. */
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

  /** Changes of a table that were made before `position` may never have been in the log. */
  markMissed(oid: number, position: Position): void {
    this.#forgotten.set(oid, laterOf(position, this.#forgotten.get(oid) ?? position));
  }

  /** Whether nothing of these tables is missing behind this position. */
  covers(position: Position, oids: Iterable<number>): boolean {
    for (const oid of oids) {
      const gone = this.#forgotten.get(oid);
      if (gone !== undefined && comparePositions(position, gone) < 0) return false;
    }
    return true;
  }

  /** The next changes behind a position; undefined where there are none. */
  async read(after: Position): Promise<Page | undefined> {
    const segment = this.#segments[this.#indexAfter(after)];
    if (segment === undefined) return undefined;
    const { changes, range } = segment;
    // While it is read from the file it may grow no more, but be forgotten.
    const end = changes.last;
    const bytes = range === undefined ? undefined : await this.#options.file.read(range);
    return { changes: changes.read(after, bytes), end };
  }

  /** Whether anything is kept behind a position. */
  hasAfter(position: Position): boolean {
    return this.#indexAfter(position) < this.#segments.length;
  }

  /** Lets go of what committed before an LSN. */
  forget(lsn: bigint): void {
    let count = 0;
    for (const { changes } of this.#segments) {
      if (changes.last.commitLsn >= lsn) break;
      count += 1;
    }
    this.#drop(count);
  }

  /** The place of the first segment that has changes behind a position. */
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

  /** Moves the oldest changes into files, until the rest fits into memory; what cannot be written is let go. */
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
        'The resume window cannot be written to its file: who comes back later than memory reaches is told of a gap',
      );
    this.#isFileBroken = true;
    this.#drop(this.#stored + 1);
  }

  /** Lets go of the first segments, and remembers of each table where that ended. */
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
