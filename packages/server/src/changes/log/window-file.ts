import { closeSync, mkdirSync, openSync, read, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A file is given up when so much is in it: space comes back a file at a time. */
const FILE_BYTES = 32 * 1024 * 1024;
/** What a server that was killed has left behind is removed by the next one when it is so old, in ms. */
const ORPHAN_AGE_MS = 3_600_000;

const readAt = promisify(read);

/** Where something was put. */
export interface StoredRange {
  readonly file: StoredFile;
  readonly offset: number;
  readonly length: number;
}

interface StoredFile {
  readonly path: string;
  readonly descriptor: number;
  size: number;
  /** How much that is in it is still wanted. */
  ranges: number;
}

/**
 * Bytes that do not fit into memory, in files. Nothing in them outlives the process: what they held is read from
 * PostgreSQL again. Servers may share the folder: each has files of its own in it.
 */
export class WindowFile {
  readonly #folder: string;
  readonly #name: string;
  readonly #files = new Set<StoredFile>();
  #current: StoredFile | undefined;
  #made = 0;
  #bytes = 0;

  /** `name` begins the names of this object's files, and nobody else's. */
  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** Bytes that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Keeps bytes. Throws the system's error where they cannot be written. */
  store(bytes: Buffer): StoredRange {
    const file = this.#roomFor(bytes.length);
    const offset = file.size;
    for (let done = 0; done < bytes.length; )
      done += writeSync(file.descriptor, bytes, done, bytes.length - done, offset + done);
    file.size += bytes.length;
    file.ranges += 1;
    this.#bytes += bytes.length;
    return { file, offset, length: bytes.length };
  }

  /** The bytes of a place. Throws where it was removed. */
  async read({ file, offset, length }: StoredRange): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      // A descriptor that is closed may be another file's by now.
      if (!this.#files.has(file)) throw new Error('this piece of the window was removed');
      const { bytesRead } = await readAt(file.descriptor, bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw new Error('a piece of the window is missing');
      done += bytesRead;
    }
    if (!this.#files.has(file)) throw new Error('this piece of the window was removed');
    return bytes;
  }

  /** What is there is not wanted any more. */
  remove({ file, length }: StoredRange): void {
    file.ranges -= 1;
    this.#bytes -= length;
    if (file.ranges === 0) this.#delete(file);
  }

  /** Removes everything. */
  close(): void {
    for (const file of this.#files) this.#delete(file);
  }

  #roomFor(length: number): StoredFile {
    const current = this.#current;
    if (current !== undefined && current.size + length <= FILE_BYTES) return current;
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    if (this.#made === 0) removeOrphans(this.#folder);
    this.#made += 1;
    const path = join(this.#folder, `${this.#name}.${this.#made}`);
    const file = { path, descriptor: openSync(path, 'wx+', 0o600), size: 0, ranges: 0 };
    this.#files.add(file);
    this.#current = file;
    return file;
  }

  #delete(file: StoredFile): void {
    if (this.#current === file) this.#current = undefined;
    this.#files.delete(file);
    closeSync(file.descriptor);
    rmSync(file.path, { force: true });
  }
}

function removeOrphans(folder: string): void {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const { mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? {};
    if (mtimeMs !== undefined && Date.now() - mtimeMs > ORPHAN_AGE_MS) rmSync(path, { force: true });
  }
}
