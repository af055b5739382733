import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { IdSource } from '../../lib/ids.js';
import type { Log } from '../../lib/log.js';

export interface SnapshotFilesParts {
  readonly folder: string;
  readonly ids: IdSource;
  readonly log: Log;
}

const FILE_NAME_LENGTH = 16;
const UNSTORABLE =
  'The server cannot store a snapshot of this size now: try again later, add a condition, or select fewer columns.';

/**
 * Creates temporary files for snapshots. A file loses its name as soon as it is open, so that its content goes with the
 * process. Where the system does not allow that, the file is deleted when it is closed, and by the next start after a
 * crash.
 */
export class SnapshotFiles {
  readonly #parts: SnapshotFilesParts;
  readonly #open = new Set<SnapshotFile>();
  /** Set while files cannot be written, which is logged once. */
  #isBroken = false;

  constructor(parts: SnapshotFilesParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#open.size;
  }

  get bytes(): number {
    let bytes = 0;
    for (const file of this.#open) bytes += file.bytes;
    return bytes;
  }

  /** Deletes what a killed server has left. Files of a server that shares the folder have no name, or cannot be deleted. */
  async removeOrphans(): Promise<void> {
    const { folder } = this.#parts;
    const names = await readdir(folder).catch(() => []);
    await Promise.all(names.map((name) => rm(join(folder, name), { force: true }).catch(() => undefined)));
  }

  /** Creates a file that only this user can read. Throws DB_SUBSCRIPTION_FAILED if the system refuses. */
  async create(): Promise<SnapshotFile> {
    const { folder, ids } = this.#parts;
    const path = join(folder, ids.random(FILE_NAME_LENGTH));
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const handle = await open(path, 'wx+', 0o600);
      const isUnnamed = await rm(path, { force: true }).then(
        () => true,
        () => false,
      );
      const file = new SnapshotFile(handle, {
        failed: (error) => this.#failed(error),
        written: () => {
          this.#isBroken = false;
        },
        closed: async () => {
          this.#open.delete(file);
          if (!isUnnamed) await rm(path, { force: true }).catch(() => undefined);
        },
      });
      this.#open.add(file);
      return file;
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Closes all files. */
  async close(): Promise<void> {
    await Promise.all([...this.#open].map((file) => file.close()));
  }

  #failed(error: unknown): ProtocolError {
    if (!this.#isBroken)
      this.#parts.log.warn(
        { err: error },
        'The temporary file of a snapshot failed: large snapshots are refused until REALTIME_DATA_DIR can be written',
      );
    this.#isBroken = true;
    return new ProtocolError('DB_SUBSCRIPTION_FAILED', { details: UNSTORABLE, cause: error });
  }
}

interface FileEvents {
  /** Reports an error of the system, and returns the one to throw. */
  failed(error: unknown): ProtocolError;
  written(): void;
  closed(): Promise<void>;
}

/** A temporary file that is appended to, then read at any offset. Throws DB_SUBSCRIPTION_FAILED when
 * the system fails. */
export class SnapshotFile {
  readonly #handle: FileHandle;
  readonly #events: FileEvents;
  #bytes = 0;
  #closing: Promise<void> | undefined;

  constructor(handle: FileHandle, events: FileEvents) {
    this.#handle = handle;
    this.#events = events;
  }

  get bytes(): number {
    return this.#bytes;
  }

  async append(bytes: Buffer): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; ) {
        const left = bytes.length - done;
        done += (await this.#handle.write(bytes, done, left, this.#bytes + done)).bytesWritten;
      }
      this.#bytes += bytes.length;
      this.#events.written();
    } catch (error) {
      throw this.#events.failed(error);
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    try {
      for (let done = 0; done < length; ) {
        const { bytesRead } = await this.#handle.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) throw new Error('a page is missing in the file of a snapshot');
        done += bytesRead;
      }
      return bytes;
    } catch (error) {
      throw this.#events.failed(error);
    }
  }

  /** Frees the disk space at once. May be called repeatedly. */
  close(): Promise<void> {
    this.#closing ??= this.#handle
      .close()
      .catch(() => undefined)
      .then(() => this.#events.closed());
    return this.#closing;
  }
}
