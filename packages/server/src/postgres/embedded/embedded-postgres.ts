import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import { makePrivateFolder } from '../../lib/private-folder.js';
import { StartupError } from '../../lib/startup-error.js';
import { type Binaries, findBinaries } from './binaries.js';
import { cacheFolders } from './cache-folders.js';
import { chooseAccount } from './choose-account.js';
import { clusterMajor, openCluster } from './cluster.js';
import { openClusterHome } from './cluster-home.js';
import { FolderLock } from './folder-lock.js';
import { folderProblem } from './folder-problem.js';
import { endOrphanedProcesses } from './orphaned-processes.js';
import type { PlatformPackage } from './platform-package.js';
import { choosePort, savePort } from './port.js';
import { PostgresLog } from './postgres-log.js';
import { Postmaster, PostmasterExit } from './postmaster.js';
import { canLogIn, resetPassword, superuserUrl } from './superuser-login.js';
import { superuserPassword } from './superuser-password.js';
import type { Account } from './system-account.js';

export interface EmbeddedPostgresOptions {
  /** The absolute path of the folder of the cluster, its password and its log; created when missing. */
  readonly dataDir: string;
  readonly log: Log;
  /**
   * Cache folders: for a copy of the programs, and for a cluster whose account cannot enter the data folder.
   */
  readonly caches?: readonly string[];
  /** Another package than this platform's, for tests: an older PostgreSQL. */
  readonly package?: PlatformPackage;
}

/** A cluster that PostgreSQL can be started on. */
interface PreparedCluster {
  readonly binaries: Binaries;
  readonly cluster: string;
  readonly account: Account | undefined;
  readonly password: string;
}

/**
 * Start attempts: another program may take the port at this moment, or a child of a dead PostgreSQL may still
 * run.
 */
const ATTEMPTS = 5;
const PORT_TAKEN = /Address already in use|could not create any TCP\/IP sockets/;
const STILL_RUNNING = /postmaster\.pid|shared memory block/;

/**
 * Delays before restarting a PostgreSQL that died, in ms: each is twice the one before, up to the maximum.
 */
const MIN_RESTART_DELAY_MS = 100;
const MAX_RESTART_DELAY_MS = 10_000;
/** After running this long PostgreSQL counts as stable, and the delays start at the minimum again. */
const STABLE_AFTER_MS = 60_000;

/**
 * Runs a PostgreSQL in the data folder: creates its cluster at the first start and restarts it when it dies,
 * until `stop`.
 */
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

  /** The process ID of PostgreSQL's postmaster, once started. */
  get pid(): number | undefined {
    return this.#postmaster?.pid;
  }

  /**
   * Starts PostgreSQL and returns the superuser's connection string once it accepts connections; the string
   * stays the same until `stop`. Throws StartupError when the operator has to fix something, and an
   * AbortError when `stop` was called meanwhile.
   */
  async start(): Promise<{ url: string }> {
    const starting = this.#start();
    this.#starting = starting.catch(() => undefined);
    try {
      return await starting;
    } catch (error) {
      await this.stop();
      throw this.#toStartupError(error);
    }
  }

  /**
   * Stops PostgreSQL, in fast mode first, and releases the folder lock. May be called at any time, also
   * repeatedly.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #start(): Promise<{ url: string }> {
    this.#stopping.signal.throwIfAborted();
    await makePrivateFolder(this.#dataDir);
    await this.#lock.take();
    await this.#postgresLog.open();
    const prepared = await this.#prepare();
    const port = await this.#launchWithPassword(prepared);
    await savePort(this.#dataDir, port);
    this.#watching = this.#watch(prepared, port);
    const { version } = prepared.binaries;
    this.#log.info({ version, port, folder: prepared.cluster }, 'The embedded PostgreSQL is running');
    return { url: superuserUrl(port, prepared.password) };
  }

  async #stop(): Promise<void> {
    this.#stopping.abort();
    await this.#starting;
    await this.#postmaster?.stop();
    await this.#watching;
    await this.#postgresLog.close();
    await this.#lock.release();
  }

  /**
   * Chooses account and folder, finds the programs and opens the cluster: everything needed to start
   * PostgreSQL.
   */
  async #prepare(): Promise<PreparedCluster> {
    const log = this.#log;
    const preferred = await chooseAccount(log);
    const { home, account } = await openClusterHome(this.#dataDir, preferred, this.#caches, log);
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

  /**
   * Starts PostgreSQL and returns its port. Resets the superuser's password where the password file was lost.
   */
  async #launchWithPassword(prepared: PreparedCluster): Promise<number> {
    const { binaries, cluster, account, password } = prepared;
    const port = await this.#launch(prepared);
    if (await canLogIn(superuserUrl(port, password))) return port;
    this.#log.warn(
      { folder: this.#dataDir },
      'The password file does not match the database; resetting the password',
    );
    await this.#postmaster?.stop();
    await endOrphanedProcesses(cluster, account, this.#log);
    if (await resetPassword(binaries, cluster, account, password)) return this.#launch(prepared, port);
    throw new StartupError(
      `The password of the embedded PostgreSQL in ${cluster} is lost and could not be reset. Restore the file postgres-password, or set REALTIME_DATA_DIR to another folder.`,
    );
  }

  async #launch({ binaries, cluster, account }: PreparedCluster, fixedPort?: number): Promise<number> {
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
        if (!(error instanceof PostmasterExit) || attempt >= ATTEMPTS || !isTransient(error.message))
          throw error;
        await delay(MIN_RESTART_DELAY_MS * attempt, undefined, { signal: this.#stopping.signal });
      }
    }
  }

  /** Restarts PostgreSQL on the same port whenever it ends, until `stop`. */
  async #watch(prepared: PreparedCluster, port: number): Promise<void> {
    const { signal } = this.#stopping;
    let delayMs = MIN_RESTART_DELAY_MS;
    while (!signal.aborted) {
      const since = performance.now();
      const reason = await this.#postmaster?.exited;
      if (signal.aborted) return;
      this.#log.error({ reason }, 'The embedded PostgreSQL ended unexpectedly; restarting it');
      if (performance.now() - since > STABLE_AFTER_MS) delayMs = MIN_RESTART_DELAY_MS;
      try {
        await delay(delayMs, undefined, { signal });
        delayMs = Math.min(delayMs * 2, MAX_RESTART_DELAY_MS);
        await this.#launch(prepared, port);
        this.#log.info({ port }, 'The embedded PostgreSQL restarted');
      } catch {
        // The next round logs why it exited; or the server is stopping.
      }
    }
  }

  #toStartupError(error: unknown): unknown {
    if (error instanceof StartupError || isAbort(error)) return error;
    const problem = folderProblem(error, this.#dataDir);
    if (problem !== undefined) return problem;
    const message = error instanceof Error ? error.message : String(error);
    return new StartupError(
      `The embedded PostgreSQL did not start: ${message.replaceAll(/\s+/g, ' ')}. Its log is ${this.#postgresLog.file}.`,
      { cause: error },
    );
  }
}

function isTransient(reason: string): boolean {
  return PORT_TAKEN.test(reason) || STILL_RUNNING.test(reason);
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}
