import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import { makePrivateFolder } from '../../lib/private-folder.js';
import { StartupError } from '../../lib/startup-error.js';
import type { Account } from './account.js';
import { type Binaries, findBinaries } from './binaries.js';
import { cacheFolders } from './cache-folders.js';
import { chooseAccount } from './choose-account.js';
import { clusterMajor, openCluster } from './cluster.js';
import { openHome } from './cluster-home.js';
import { FolderLock } from './folder-lock.js';
import { folderProblem } from './folder-problem.js';
import { endOrphanedProcesses } from './orphaned-processes.js';
import type { PlatformPackage } from './platform-package.js';
import { choosePort, keepPort } from './port.js';
import { PostgresLog } from './postgres-log.js';
import { Postmaster, PostmasterExit } from './postmaster.js';
import { canLogIn, resetPassword, superuserUrl } from './superuser-login.js';
import { superuserPassword } from './superuser-password.js';

export interface EmbeddedPostgresOptions {
  /** The absolute path of the folder that the cluster, its password and its log lie in; made when it is not there. */
  readonly dataDir: string;
  readonly log: Log;
  /** Folders for a copy of the programs, and for a cluster whose account cannot enter the data folder. */
  readonly caches?: readonly string[];
  /** The programs of another package than the one of this platform: of an older PostgreSQL, for tests. */
  readonly package?: PlatformPackage;
}

/** A cluster that is ready to be run. */
interface Ready {
  readonly binaries: Binaries;
  readonly cluster: string;
  readonly account: Account | undefined;
  readonly password: string;
}

/** Attempts to start on one cluster: another program may take the port just now, or a child of a dead PostgreSQL may linger. */
const ATTEMPTS = 5;
const PORT_TAKEN = /Address already in use|could not create any TCP\/IP sockets/;
const STILL_THERE = /postmaster\.pid|shared memory block/;

/** PostgreSQL that died is started again after a pause, in ms, which doubles up to the longest. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
/** One that ran so long was well, and the pauses begin anew. */
const WELL_AFTER_MS = 60_000;

/** A PostgreSQL of our own in the data folder: made at the first start, kept running until `stop`. */
export class EmbeddedPostgres {
  readonly #dataDir: string;
  readonly #log: Log;
  readonly #caches: readonly string[];
  readonly #package: PlatformPackage | undefined;
  readonly #lock: FolderLock;
  readonly #postgresLog: PostgresLog;
  readonly #stopping = new AbortController();
  #postmaster: Postmaster | undefined;
  #starting: Promise<unknown> | undefined;
  #watching: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;

  constructor({ dataDir, log, caches = cacheFolders(), package: shipped }: EmbeddedPostgresOptions) {
    this.#dataDir = dataDir;
    this.#log = log;
    this.#caches = caches;
    this.#package = shipped;
    this.#lock = new FolderLock(dataDir);
    this.#postgresLog = new PostgresLog(dataDir);
  }

  /** The number of PostgreSQL's main process, once it was started. */
  get pid(): number | undefined {
    return this.#postmaster?.pid;
  }

  /**
   * Answers the superuser's connection string once connections are taken; it stays the same for as long as
   * this runs. Throws StartupError for what an operator has to mend, and an AbortError when `stop` came first.
   */
  async start(): Promise<{ url: string }> {
    const starting = this.#start();
    this.#starting = starting.catch(() => undefined);
    try {
      return await starting;
    } catch (error) {
      await this.stop();
      throw this.#explained(error);
    }
  }

  /** Ends PostgreSQL, in fast mode first, and gives the folder up. May be called at any time, also again. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #start(): Promise<{ url: string }> {
    this.#stopping.signal.throwIfAborted();
    await makePrivateFolder(this.#dataDir);
    await this.#lock.take();
    await this.#postgresLog.open();
    const ready = await this.#prepare();
    const port = await this.#launchWithPassword(ready);
    await keepPort(this.#dataDir, port);
    this.#watching = this.#watch(ready, port);
    const { version } = ready.binaries;
    this.#log.info({ version, port, folder: ready.cluster }, 'The embedded PostgreSQL is running');
    return { url: superuserUrl(port, ready.password) };
  }

  async #stop(): Promise<void> {
    this.#stopping.abort();
    await this.#starting;
    await this.#postmaster?.stop();
    await this.#watching;
    await this.#postgresLog.close();
    await this.#lock.release();
  }

  /** Everything that must be there before PostgreSQL can be started. */
  async #prepare(): Promise<Ready> {
    const log = this.#log;
    const preferred = await chooseAccount(log);
    const { home, account } = await openHome(this.#dataDir, preferred, this.#caches, log);
    const wanted = await clusterMajor(home);
    const shipped = this.#package;
    const binaries = await findBinaries({
      account,
      caches: this.#caches,
      wanted,
      log,
      ...(shipped === undefined ? {} : { package: shipped }),
    });
    const password = await superuserPassword(this.#dataDir);
    const signal = this.#stopping.signal;
    const cluster = await openCluster({ home, binaries, account, password, signal, log });
    return { binaries, cluster, account, password };
  }

  /** Starts PostgreSQL and answers its port. The password is made to be the one of the file, should that have been lost. */
  async #launchWithPassword(ready: Ready): Promise<number> {
    const { binaries, cluster, account, password } = ready;
    const port = await this.#launch(ready);
    if (await canLogIn(superuserUrl(port, password))) return port;
    this.#log.warn(
      { folder: this.#dataDir },
      'The password file does not fit the data; setting the password anew',
    );
    await this.#postmaster?.stop();
    await endOrphanedProcesses(cluster, account, this.#log);
    if (await resetPassword(binaries, cluster, account, password)) return this.#launch(ready, port);
    throw new StartupError(
      `The password of the embedded PostgreSQL in ${cluster} is lost and could not be set anew.`,
    );
  }

  async #launch({ binaries, cluster, account }: Ready, fixedPort?: number): Promise<number> {
    for (let attempt = 1; ; attempt++) {
      await endOrphanedProcesses(cluster, account, this.#log);
      const port = fixedPort ?? (await choosePort(this.#dataDir));
      const postmaster = new Postmaster({
        binaries,
        cluster,
        account,
        port,
        postgresLog: this.#postgresLog,
        log: this.#log,
      });
      this.#postmaster = postmaster;
      try {
        await postmaster.start(this.#stopping.signal);
        return port;
      } catch (error) {
        await postmaster.stop();
        if (!(error instanceof PostmasterExit) || attempt >= ATTEMPTS || !mayPass(error.message)) throw error;
        await delay(FIRST_PAUSE_MS * attempt, undefined, { signal: this.#stopping.signal });
      }
    }
  }

  /** Starts PostgreSQL again, on the same port, whenever it ends before it is told to. */
  async #watch(ready: Ready, port: number): Promise<void> {
    const { signal } = this.#stopping;
    let pause = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const since = performance.now();
      const reason = await this.#postmaster?.exited;
      if (signal.aborted) return;
      this.#log.error({ reason }, 'The embedded PostgreSQL has ended; starting it again');
      if (performance.now() - since > WELL_AFTER_MS) pause = FIRST_PAUSE_MS;
      try {
        await delay(pause, undefined, { signal });
        pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
        await this.#launch(ready, port);
        this.#log.info({ port }, 'The embedded PostgreSQL is running again');
      } catch {
        // Its reason is that of the exit, which the next round tells; or we are stopping.
      }
    }
  }

  #explained(error: unknown): unknown {
    if (error instanceof StartupError || isAbort(error)) return error;
    const problem = folderProblem(error, this.#dataDir);
    if (problem !== undefined) return problem;
    const words = error instanceof Error ? error.message : String(error);
    return new StartupError(
      `The embedded PostgreSQL did not start: ${words.replaceAll(/\s+/g, ' ')}. Its log is ${this.#postgresLog.file}.`,
      { cause: error },
    );
  }
}

function mayPass(reason: string): boolean {
  return PORT_TAKEN.test(reason) || STILL_THERE.test(reason);
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}
