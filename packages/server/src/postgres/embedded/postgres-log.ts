import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openToAppend } from './private-file.js';

const FILE = 'postgres.log';
const MAX_BYTES = 8 * 1024 * 1024;
const CHECK_MS = 60_000;
/** How much of the end of the file is searched for the reason of a failure. */
const TAIL_BYTES = 16 * 1024;

/**
 * `2026-01-31 12:00:00.000 UTC [123] FATAL: text`: our log_line_prefix, which is missing until the settings
 * are read.
 */
const LINE = /(?:^|\] )(PANIC|FATAL|ERROR|LOG|WARNING|HINT|DETAIL):\s+(.*)$/;
/** Messages with the real cause, which PostgreSQL logs before it exits with a more general one. */
const CAUSE =
  /^(could not bind|could not create listen|invalid value for|unrecognized configuration|syntax error in file)|No space left on device|^Check free disk space/;
const SERIOUS_LEVELS = ['PANIC', 'FATAL', 'ERROR'];

/**
 * Manages the log file of the embedded PostgreSQL, `postgres.log`, and one older file beside it, each about 8
 * MB at most. PostgreSQL writes to a file because a pipe would break when the server dies.
 */
export class PostgresLog {
  readonly file: string;
  #handle: FileHandle | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(folder: string) {
    this.file = join(folder, FILE);
  }

  async open(): Promise<void> {
    this.#handle = await openToAppend(this.file);
    await this.#trim();
    this.#timer = setInterval(() => void this.#trim(), CHECK_MS).unref();
  }

  /** The file descriptor for PostgreSQL's standard output and error. Throws when the log is not open. */
  get descriptor(): number {
    if (this.#handle === undefined) throw new Error('postgres.log is not open');
    return this.#handle.fd;
  }

  async size(): Promise<number> {
    return (await this.#handle?.stat())?.size ?? 0;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  /** Returns why PostgreSQL ended, in its own message, from the part of the file after `offset` bytes. */
  async reasonSince(offset: number): Promise<string> {
    return failureReason(await this.#textSince(offset));
  }

  async #textSince(offset: number): Promise<string> {
    const reader = await open(this.file, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { size } = await reader.stat();
      const start = Math.max(offset > size ? 0 : offset, size - TAIL_BYTES);
      const { buffer, bytesRead } = await reader.read({
        buffer: Buffer.alloc(size - start),
        position: start,
      });
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await reader.close();
    }
  }

  /** Copies the file and empties it. It cannot be replaced, since PostgreSQL keeps its descriptor open. */
  async #trim(): Promise<void> {
    try {
      if ((await this.size()) <= MAX_BYTES) return;
      await rm(`${this.file}.1`, { force: true });
      await copyFile(this.file, `${this.file}.1`, constants.COPYFILE_EXCL);
      await this.#handle?.truncate(0);
    } catch {
      // The disk may be full; the next check tries again.
    }
  }
}

/**
 * Extracts the reason of a failure from log text: the cause and the last serious line, else the last line.
 */
export function failureReason(text: string): string {
  const lines = text.split('\n').flatMap((line) => {
    const [, level = '', message = ''] = LINE.exec(line.trimEnd()) ?? [];
    return level === '' ? [] : [{ level, message }];
  });
  const last = lines.findLast(({ level }) => SERIOUS_LEVELS.includes(level));
  if (last === undefined) return lines.at(-1)?.message ?? text.trim().split('\n').at(-1)?.trim() ?? '';
  const cause = lines.findLast(({ message }) => CAUSE.test(message));
  return cause === undefined || cause === last ? last.message : `${cause.message}; ${last.message}`;
}
