import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openToAppend } from './private-file.js';

const FILE = 'postgres.log';
const MAX_BYTES = 8 * 1024 * 1024;
const CHECK_MS = 60_000;
/** How much of the end is searched for the reason of a failure. */
const TAIL_BYTES = 16 * 1024;

/** `2026-01-31 12:00:00.000 UTC [123] FATAL:  text`, as our log_line_prefix makes it; before that is read, without it. */
const LINE = /(?:^|\] )(PANIC|FATAL|ERROR|LOG|WARNING|HINT|DETAIL):\s+(.*)$/;
/** What PostgreSQL only logs before it gives up for another reason. */
const COMPLAINT =
  /^(could not bind|could not create listen|invalid value for|unrecognized configuration|syntax error in file)|No space left on device|^Check free disk space/;
const SERIOUS = ['PANIC', 'FATAL', 'ERROR'];

/**
 * The file that the embedded PostgreSQL writes its log to, and one older beside it; each of at most some 8 MB.
 * A file outlives us and cannot break as a pipe would.
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

  /** The descriptor to give to PostgreSQL. */
  get descriptor(): number {
    if (this.#handle === undefined) throw new Error('the log is not open');
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

  /** What PostgreSQL said last, since the file was `offset` bytes long, about why it ended; with what led to it. */
  async reasonSince(offset: number): Promise<string> {
    return reasonIn(await this.#textSince(offset));
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

  /** PostgreSQL keeps its descriptor, so the file is emptied and not replaced. */
  async #trim(): Promise<void> {
    try {
      if ((await this.size()) <= MAX_BYTES) return;
      await rm(`${this.file}.1`, { force: true });
      await copyFile(this.file, `${this.file}.1`, constants.COPYFILE_EXCL);
      await this.#handle?.truncate(0);
    } catch {
      // A full disk, perhaps; next time.
    }
  }
}

/** The reason in PostgreSQL's words: its last serious line and the complaint before it, else its last line. */
export function reasonIn(text: string): string {
  const lines = text.split('\n').flatMap((line) => {
    const [, level = '', words = ''] = LINE.exec(line.trimEnd()) ?? [];
    return level === '' ? [] : [{ level, words }];
  });
  const last = lines.findLast(({ level }) => SERIOUS.includes(level));
  if (last === undefined) return lines.at(-1)?.words ?? text.trim().split('\n').at(-1)?.trim() ?? '';
  const complaint = lines.findLast(({ words }) => COMPLAINT.test(words));
  return complaint === undefined || complaint === last ? last.words : `${complaint.words}; ${last.words}`;
}
