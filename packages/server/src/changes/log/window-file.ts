import { closeSync, mkdirSync, openSync, read, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { wallClock } from '../../lib/clock.js';

/** The size at which the next file is started. Disk space is freed one whole file at a time. */
const FILE_BYTES = 32 * 1024 * 1024;
/** The age, in ms, at which a starting server deletes the files of a killed one. */
const ORPHAN_AGE_MS = 3_600_000;

const readAt = promisify(read);

/** Where bytes are stored. */
export interface StoredRange {
  readonly file: StoredFile;
  readonly offset: number;
  readonly length: number;
}

interface StoredFile {
  readonly path: string;
  readonly descriptor: number;
  size: number;
  /** How many stored ranges in it were not removed. */
  ranges: number;
}

/**
 * Stores bytes that do not fit into memory, in files. The content does not outlive the process: after a restart it is
 * read from PostgreSQL again. Servers may share the folder, because each has its own files in it.
 */
export class WindowFile {
  readonly #folder: string;
  readonly #name: string;
  readonly #files = new Set<StoredFile>();
  #current: StoredFile | undefined;
  #filesCreated = 0;
  #bytes = 0;

  /** `name`: the prefix of this object's file names, which no other object uses. */
  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** How many stored bytes were not removed. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Stores bytes. Throws the system's error if they cannot be written. */
  store(bytes: Buffer): StoredRange {
    const file = this.#fileFor(bytes.length);
    const offset = file.size;
    for (let done = 0; done < bytes.length; )
      done += writeSync(file.descriptor, bytes, done, bytes.length - done, offset + done);
    file.size += bytes.length;
    file.ranges += 1;
    this.#bytes += bytes.length;
    return { file, offset, length: bytes.length };
  }

  /** Reads the bytes of a range. Throws if the range was removed. */
  async read({ file, offset, length }: StoredRange): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      // A closed descriptor may already belong to another file.
      if (!this.#files.has(file)) throw new Error('this range of the resume window was removed');
      const { bytesRead } = await readAt(file.descriptor, bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw new Error('a range of the resume window is missing in its file');
      done += bytesRead;
    }
    if (!this.#files.has(file)) throw new Error('this range of the resume window was removed');
    return bytes;
  }

  /** Removes a range, and its file when no range in it is left. */
  remove({ file, length }: StoredRange): void {
    file.ranges -= 1;
    this.#bytes -= length;
    if (file.ranges === 0) this.#delete(file);
  }

  /** Deletes all files. */
  close(): void {
    for (const file of this.#files) this.#delete(file);
  }

  #fileFor(length: number): StoredFile {
    const current = this.#current;
    if (current !== undefined && current.size + length <= FILE_BYTES) return current;
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    if (this.#filesCreated === 0) removeOrphans(this.#folder);
    this.#filesCreated += 1;
    const path = join(this.#folder, `${this.#name}.${this.#filesCreated}`);
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
    if (mtimeMs !== undefined && wallClock.epochMs() - mtimeMs > ORPHAN_AGE_MS) rmSync(path, { force: true });
  }
}
