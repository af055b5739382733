import { randomBytes } from 'node:crypto';
import { link, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { StartupError } from '../../lib/startup-error.js';
import { codeOf } from './folder-problem.js';
import { readIfThere } from './private-file.js';
import { processStart } from './process-start.js';

export const LOCK_FILE = 'server.pid';

/** A rival needs a few system calls to finish what it began. */
const ATTEMPTS = 20;
const PAUSE_MS = 10;

/**
 * The right of one server process to a data folder: a file with its number and the time of its start, so
 * that a number that was given to another process does not count. Nothing is held while the process lives,
 * and nothing has to be cleaned up after kill -9.
 */
export class FolderLock {
  readonly #file: string;
  #content: string | undefined;

  constructor(folder: string) {
    this.#file = join(folder, LOCK_FILE);
  }

  /** Throws StartupError, which names the process, when a living one has it. */
  async take(): Promise<void> {
    const content = `${process.pid}\n${await processStart(process.pid)}`;
    const draft = `${this.#file}.${randomBytes(6).toString('hex')}`;
    await writeFile(draft, `${content}\n`, { flag: 'wx', mode: 0o644 });
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        if ((await linked(draft, this.#file)) || (await this.#succeed(draft))) {
          this.#content = content;
          return;
        }
        await delay(PAUSE_MS);
      }
    } finally {
      await rm(draft, { force: true });
    }
    throw new StartupError(`Cannot take ${this.#file}: other processes keep changing it. Try again.`);
  }

  /** Gives the folder up, when it is ours. */
  async release(): Promise<void> {
    if (this.#content === undefined) return;
    const isOurs = (await readIfThere(this.#file)) === this.#content;
    this.#content = undefined;
    if (isOurs) await rm(this.#file, { force: true });
  }

  /**
   * Takes the place of a holder that is gone. Of several who found the same dead holder one may succeed it:
   * who makes the file named after it. That one looks again, since somebody may have succeeded it before.
   */
  async #succeed(draft: string): Promise<boolean> {
    const holder = await this.#deadHolder();
    if (holder === undefined) return false;
    const claim = `${this.#file}.after-${Buffer.from(holder).toString('base64url').slice(0, 100)}`;
    if (!(await linked(draft, claim))) {
      // Whoever made the claim is at work, or was killed in the middle of it.
      if (!(await livesOn(await readIfThere(claim)))) await rm(claim, { force: true });
      return false;
    }
    try {
      if ((await this.#deadHolder()) !== holder) return false;
      await rename(draft, this.#file);
      return true;
    } finally {
      await rm(claim, { force: true });
    }
  }

  /** What the file says when its process is gone; undefined when there is no file. */
  async #deadHolder(): Promise<string | undefined> {
    const holder = await readIfThere(this.#file);
    if (holder === undefined || !(await livesOn(holder))) return holder;
    const pid = Number.parseInt(holder, 10);
    throw new StartupError(
      `Another server (${pid === process.pid ? 'in this process' : `process ${pid}`}) uses the data folder ${dirname(this.#file)}. Stop it, or set REALTIME_DATA_DIR to another folder.`,
    );
  }
}

async function livesOn(holder: string | undefined): Promise<boolean> {
  const [pid = '', start] = holder?.split('\n') ?? [];
  return /^[1-9]\d*$/.test(pid) && (await processStart(Number(pid))) === start;
}

/** A hard link is made by one only, and whole. */
async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}
