import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';

/** A file is given up when so much is in it: space comes back a file at a time. */
const FILE_BYTES = 32 * 1024 * 1024;

/** Where something was put. */
export interface Place {
  readonly file: StoredFile;
  readonly offset: number;
  readonly length: number;
}

interface StoredFile {
  readonly path: string;
  readonly descriptor: number;
  size: number;
  /** How much that is in it is still wanted. */
  pieces: number;
}

/**
 * Bytes that do not fit into memory, in files of one folder. Nothing in it outlives the process: what it held is read
 * from PostgreSQL again.
 */
export class WindowFile {
  readonly #folder: string;
  #current: StoredFile | undefined;
  #made = 0;
  #bytes = 0;

  /** `folder` is this object's alone; what is in it is removed. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Bytes that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Keeps bytes. Throws the system's error where they cannot be written. */
  put(bytes: Buffer): Place {
    const file = this.#roomFor(bytes.length);
    const offset = file.size;
    for (let done = 0; done < bytes.length; )
      done += writeSync(file.descriptor, bytes, done, bytes.length - done, offset + done);
    file.size += bytes.length;
    file.pieces += 1;
    this.#bytes += bytes.length;
    return { file, offset, length: bytes.length };
  }

  /** The bytes of a place that was not removed. */
  async get({ file, offset, length }: Place): Promise<Buffer> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(file.path, 'r');
      const bytes = Buffer.allocUnsafe(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) throw new Error('a piece of the window is missing');
        done += bytesRead;
      }
      return bytes;
    } finally {
      await handle?.close();
    }
  }

  /** What is there is not wanted any more. */
  remove({ file, length }: Place): void {
    file.pieces -= 1;
    this.#bytes -= length;
    if (file.pieces > 0) return;
    if (this.#current === file) this.#current = undefined;
    closeSync(file.descriptor);
    rmSync(file.path, { force: true });
  }

  /** Removes everything. */
  close(): void {
    this.#current = undefined;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #roomFor(length: number): StoredFile {
    const current = this.#current;
    if (current !== undefined && current.size + length <= FILE_BYTES) return current;
    if (this.#made === 0) {
      rmSync(this.#folder, { recursive: true, force: true });
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    }
    this.#made += 1;
    const path = join(this.#folder, String(this.#made));
    const file = { path, descriptor: openSync(path, 'w', 0o600), size: 0, pieces: 0 };
    this.#current = file;
    return file;
  }
}
