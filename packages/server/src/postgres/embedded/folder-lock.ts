import { randomBytes } from 'node:crypto';
import { link, readdir, readlink, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { StartupError } from '../../lib/startup-error.js';
import { codeOf } from './folder-problem.js';
import { readIfThere } from './private-file.js';
import { processStart } from './process-start.js';

export const LOCK_FILE = 'server.pid';

/** A rival needs a few system calls to finish what it began. */
const ATTEMPTS = 20;
const PAUSE_MS = 10;

/** The holder makes its file young again this often, for those who cannot see its process. */
const TOUCH_MS = 2_000;
/** A holder that cannot be seen is gone when its file is older. */
const STALE_MS = 10_000;

/**
 * The right of one server process to a data folder: a file with its number, the time of its start, so that a
 * number that was given to another process does not count, and where its number is valid. A container on the
 * same volume has numbers of its own: there the age of the file tells whether the holder lives. Nothing has to
 * be cleaned up after kill -9.
 */
export class FolderLock {
  readonly #file: string;
  #content: string | undefined;
  #touching: NodeJS.Timeout | undefined;

  constructor(folder: string) {
    this.#file = join(folder, LOCK_FILE);
  }

  /** Throws StartupError, which names the process, when a living one has it. */
  async take(): Promise<void> {
    const content = [process.pid, await processStart(process.pid), await numberSpace()].join('\n');
    const draft = `${this.#file}.${randomBytes(6).toString('hex')}`;
    await writeFile(draft, `${content}\n`, { flag: 'wx', mode: 0o644 });
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        if ((await linked(draft, this.#file)) || (await this.#succeed(draft))) {
          this.#content = content;
          this.#touching = setInterval(() => void this.#touch(content), TOUCH_MS).unref();
          await this.#tidy();
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
    clearInterval(this.#touching);
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
      if (!(await livesOn(claim, await readIfThere(claim)))) await rm(claim, { force: true });
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
    if (holder === undefined || !(await livesOn(this.#file, holder))) return holder;
    const folder = dirname(this.#file);
    const pid = Number.parseInt(holder, 10);
    if (await isElsewhere(holder)) {
      throw new StartupError(
        `Another server (process ${pid}, perhaps in another container) uses the data folder ${folder}. Stop it, or set REALTIME_DATA_DIR to another folder; one that was killed is waited for at most ten seconds after its end.`,
      );
    }
    throw new StartupError(
      `Another server (${pid === process.pid ? 'in this process' : `process ${pid}`}) uses the data folder ${folder}. Stop it, or set REALTIME_DATA_DIR to another folder.`,
    );
  }

  async #touch(content: string): Promise<void> {
    try {
      const now = new Date();
      if ((await readIfThere(this.#file)) === content) await utimes(this.#file, now, now);
    } catch {
      // The next round may succeed; a server must not fall for it.
    }
  }

  /** Removes what processes left that were killed while they tried to take the folder. */
  async #tidy(): Promise<void> {
    const folder = dirname(this.#file);
    const prefix = `${basename(this.#file)}.`;
    try {
      for (const name of await readdir(folder)) {
        if (!name.startsWith(prefix)) continue;
        const file = join(folder, name);
        const owner = await readIfThere(file);
        // An empty one is being written just now.
        if (owner && !(await livesOn(file, owner))) await rm(file, { force: true });
      }
    } catch {
      // The folder is ours all the same.
    }
  }
}

/** Whether the process that wrote `holder` into `file` lives. */
async function livesOn(file: string, holder: string | undefined): Promise<boolean> {
  const [pid = '', start] = holder?.split('\n') ?? [];
  if (holder === undefined || !/^[1-9]\d*$/.test(pid)) return false;
  return (await isElsewhere(holder)) ? isFresh(file) : (await processStart(Number(pid))) === start;
}

/** Whether the process is one of another container, where our system's numbers say nothing about it. */
async function isElsewhere(holder: string): Promise<boolean> {
  const [, , space] = holder.split('\n');
  return space !== undefined && space !== (await numberSpace());
}

/** What process numbers are valid in: the PID namespace (pid_namespaces(7)); without such, the kind of system. */
async function numberSpace(): Promise<string> {
  if (process.platform !== 'linux') return process.platform;
  return readlink('/proc/self/ns/pid').catch(() => process.platform);
}

async function isFresh(file: string): Promise<boolean> {
  try {
    // A time to come is that of a clock which was set back since: a living holder would have corrected it.
    return Math.abs(Date.now() - (await stat(file)).mtimeMs) <= STALE_MS;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
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
