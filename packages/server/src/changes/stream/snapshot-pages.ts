import type { Reservation } from './snapshot-budget.js';
import type { SnapshotFile } from './snapshot-files.js';

/** The pages of a snapshot that has been read. Each page is rows as JSON objects, separated by commas. */
export interface StoredPages {
  readonly count: number;
  /** Reads a page. Throws DB_SUBSCRIPTION_FAILED if the file cannot be read. */
  read(index: number): Promise<string>;
  /** Frees what the pages take, at once. May be called repeatedly. */
  close(): void;
}

export interface SnapshotPagesParts {
  readonly reservation: Reservation;
  readonly files: { create(): Promise<SnapshotFile> };
  /** Pages up to this many bytes together stay in memory. */
  readonly memoryBytes: number;
}

/** Stores the pages of a snapshot while it is read: few of them in memory, otherwise all in a file. */
export class SnapshotPages implements StoredPages {
  readonly #parts: SnapshotPagesParts;
  #inMemory: Buffer[] = [];
  #file: SnapshotFile | undefined;
  readonly #ranges: { readonly offset: number; readonly length: number }[] = [];
  #bytes = 0;
  #isClosed = false;

  constructor(parts: SnapshotPagesParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#ranges.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Appends a page. Throws DB_SUBSCRIPTION_FAILED if its file cannot be written. */
  async append(page: Buffer): Promise<void> {
    this.#ranges.push({ offset: this.#bytes, length: page.length });
    this.#bytes += page.length;
    if (this.#file === undefined && this.#bytes <= this.#parts.memoryBytes) {
      this.#inMemory.push(page);
      return;
    }
    this.#file ??= await this.#parts.files.create();
    const pages = [...this.#inMemory, page];
    this.#inMemory = [];
    for (const each of pages) await this.#file.append(each);
  }

  /** All pages were appended: returns the rest of the budget. */
  settle(): void {
    this.#parts.reservation.settle(this.#bytes);
  }

  async read(index: number): Promise<string> {
    const range = this.#ranges[index];
    if (range === undefined || this.#isClosed) throw new Error('there is no such page');
    const { offset, length } = range;
    const page = this.#inMemory[index] ?? (await this.#file?.read(offset, length));
    return page?.toString() ?? '';
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#inMemory = [];
    const { reservation } = this.#parts;
    // What is on the disk counts until it is gone.
    if (this.#file === undefined) reservation.release();
    else void this.#file.close().finally(() => reservation.release());
  }
}
