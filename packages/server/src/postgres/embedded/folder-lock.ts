import { randomBytes } from 'node:crypto';
import { link, readdir, readlink, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { wallClock } from '../../lib/clock.js';
import { StartupError } from '../../lib/startup-error.js';
import { errorCode } from './folder-problem.js';
import { readIfExists } from './private-file.js';
import { processStart } from './process-start.js';

export const LOCK_FILE = 'server.pid';

/** Another process that is taking the lock needs only a few system calls to finish. */
const ATTEMPTS = 20;
const PAUSE_MS = 10;

/** How often the holder updates the time of its file, for servers that cannot see its process. */
const TOUCH_MS = 2_000;
/** A holder whose process cannot be seen counts as dead when its file is older than this. */
const STALE_MS = 10_000;

/**
 * Locks a data folder for one server process. The lock is a file with three lines: the process ID; the start
 * time of the process, so that a reused process ID does not count; and the PID namespace that the ID is valid
 * in. A container on the same volume has process IDs of its own: there the age of the file shows whether the
 * holder is alive. After kill -9 nothing has to be cleaned up by hand.
 */
export class FolderLock {
  readonly #file: string;
  #content: string | undefined;
  #touching: NodeJS.Timeout | undefined;

  constructor(folder: string) {
    this.#file = join(folder, LOCK_FILE);
  }

  /** Takes the lock. Throws StartupError with the process ID of the holder when that process is alive. */
  async take(): Promise<void> {
    const content = [process.pid, await processStart(process.pid), await pidNamespace()].join('\n');
    const draft = `${this.#file}.${randomBytes(6).toString('hex')}`;
    await writeFile(draft, `${content}\n`, { flag: 'wx', mode: 0o644 });
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        if ((await createLink(draft, this.#file)) || (await this.#takeOver(draft))) {
          this.#content = content;
          this.#touching = setInterval(() => void this.#touch(content), TOUCH_MS).unref();
          await this.#removeStaleFiles();
          return;
        }
        await delay(PAUSE_MS);
      }
    } finally {
      await rm(draft, { force: true });
    }
    throw new StartupError(
      `Cannot lock the data folder: other processes keep changing ${this.#file}. Try again.`,
    );
  }

  /** Removes the lock file if it is ours. */
  async release(): Promise<void> {
    if (this.#content === undefined) return;
    clearInterval(this.#touching);
    const isOurs = (await readIfExists(this.#file)) === this.#content;
    this.#content = undefined;
    if (isOurs) await rm(this.#file, { force: true });
  }

  /**
   * Takes the lock over from a dead holder; returns whether it did. Of several processes that found the same
   * dead holder, only the one that creates the claim file named after that holder may. It then checks the
   * holder again, since another process may have taken over before.
   */
  async #takeOver(draft: string): Promise<boolean> {
    const holder = await this.#deadHolder();
    if (holder === undefined) return false;
    const claim = `${this.#file}.after-${Buffer.from(holder).toString('base64url').slice(0, 100)}`;
    if (!(await createLink(draft, claim))) {
      // The process that created the claim is taking over at the moment, or was killed while doing so.
      if (!(await isHolderAlive(claim, await readIfExists(claim)))) await rm(claim, { force: true });
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

  /**
   * Returns the file's content when its process is dead; undefined when there is no file. Throws when it is
   * alive.
   */
  async #deadHolder(): Promise<string | undefined> {
    const holder = await readIfExists(this.#file);
    if (holder === undefined || !(await isHolderAlive(this.#file, holder))) return holder;
    const folder = dirname(this.#file);
    const pid = Number.parseInt(holder, 10);
    if (await isInAnotherNamespace(holder)) {
      throw new StartupError(
        `Another server (process ${pid}, perhaps in another container) uses the data folder ${folder}. Stop it, or set REALTIME_DATA_DIR to another folder. The lock of a killed server expires after ten seconds.`,
      );
    }
    throw new StartupError(
      `Another server (${pid === process.pid ? 'in this process' : `process ${pid}`}) uses the data folder ${folder}. Stop it, or set REALTIME_DATA_DIR to another folder.`,
    );
  }

  async #touch(content: string): Promise<void> {
    try {
      const now = new Date();
      if ((await readIfExists(this.#file)) === content) await utimes(this.#file, now, now);
    } catch {
      // The next update may succeed; the server must not fail because of it.
    }
  }

  /** Removes drafts and claims of processes that were killed while taking the lock. */
  async #removeStaleFiles(): Promise<void> {
    const folder = dirname(this.#file);
    const prefix = `${basename(this.#file)}.`;
    try {
      for (const name of await readdir(folder)) {
        if (!name.startsWith(prefix)) continue;
        const file = join(folder, name);
        const owner = await readIfExists(file);
        // An empty file is being written at this moment.
        if (owner && !(await isHolderAlive(file, owner))) await rm(file, { force: true });
      }
    } catch {
      // The lock is ours all the same.
    }
  }
}

/** Whether the process that wrote `holder` into `file` is alive. */
async function isHolderAlive(file: string, holder: string | undefined): Promise<boolean> {
  const [pid = '', start] = holder?.split('\n') ?? [];
  if (holder === undefined || !/^[1-9]\d*$/.test(pid)) return false;
  return (await isInAnotherNamespace(holder)) ? isFresh(file) : (await processStart(Number(pid))) === start;
}

/** Whether the holder is in another container, so that our process IDs say nothing about it. */
async function isInAnotherNamespace(holder: string): Promise<boolean> {
  const [, , holderNamespace] = holder.split('\n');
  return holderNamespace !== undefined && holderNamespace !== (await pidNamespace());
}

/**
 * Returns the PID namespace of this process (pid_namespaces(7)); where there are none, the name of the
 * platform.
 */
async function pidNamespace(): Promise<string> {
  if (process.platform !== 'linux') return process.platform;
  return readlink('/proc/self/ns/pid').catch(() => process.platform);
}

async function isFresh(file: string): Promise<boolean> {
  try {
    // A time in the future means that the clock was set back since: a living holder would have updated it.
    return Math.abs(wallClock.epochMs() - (await stat(file)).mtimeMs) <= STALE_MS;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Creates a hard link, atomically: of several processes only one succeeds. Returns false when `to` exists.
 */
async function createLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}
