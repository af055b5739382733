import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import { type Binaries, programPath } from './binaries.js';
import type { PostgresLog } from './postgres-log.js';
import { readIfExists } from './private-file.js';
import { programEnvironment, runAs, runProgram } from './run-program.js';
import type { Account } from './system-account.js';

const POLL_MS = 20;
/** How often the log mentions that the start still takes time, in ms. */
const REPEAT_LOG_MS = 10_000;
/**
 * The line of postmaster.pid that says whether connections are accepted (miscadmin.h,
 * LOCK_FILE_LINE_PM_STATUS).
 */
const STATUS_LINE = 7;

/** Signals that stop PostgreSQL (fast, immediate, by force: pg_ctl(1)), and how long each may take, in ms. */
const STEPS = [
  ['SIGINT', 'INT', 10_000],
  ['SIGQUIT', 'QUIT', 5_000],
  ['SIGKILL', 'KILL', 5_000],
] as const;

export interface PostmasterOptions {
  readonly binaries: Binaries;
  readonly cluster: string;
  readonly account: Account | undefined;
  readonly port: number;
  readonly postgresLog: PostgresLog;
  readonly log: Log;
}

/** PostgreSQL ended before it accepted connections. The message is PostgreSQL's own reason. */
export class PostmasterExit extends Error {
  override readonly name = 'PostmasterExit';
}

/** Runs PostgreSQL's main process, once. */
export class Postmaster {
  readonly #options: PostmasterOptions;
  #child: ChildProcess | undefined;
  #hasExited = false;
  #exited: Promise<string> = Promise.resolve('not started');

  constructor(options: PostmasterOptions) {
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Resolves when PostgreSQL has ended, with the reason in its own words. */
  get exited(): Promise<string> {
    return this.#exited;
  }

  /**
   * Starts PostgreSQL and resolves when it accepts connections. Throws PostmasterExit, or the reason of
   * `signal`.
   */
  async start(signal: AbortSignal): Promise<void> {
    const { postgresLog, log } = this.#options;
    const offset = await postgresLog.size();
    signal.throwIfAborted();
    this.#spawn(offset);
    let logAt = performance.now() + REPEAT_LOG_MS;
    while (!(await this.#acceptsConnections())) {
      if (this.#hasExited) throw new PostmasterExit(await this.#exited);
      signal.throwIfAborted();
      if (performance.now() >= logAt) {
        log.info(
          { log: postgresLog.file },
          'The embedded PostgreSQL is still starting, perhaps recovering from a crash',
        );
        logAt += REPEAT_LOG_MS;
      }
      await delay(POLL_MS);
    }
  }

  /**
   * Stops PostgreSQL. First in fast mode, which ends connections and shuts down cleanly; when that takes too
   * long in immediate mode and then by force, after which the next start recovers from the WAL.
   */
  async stop(): Promise<void> {
    if (this.#child?.pid === undefined) return;
    for (const [signal, name, timeoutMs] of STEPS) {
      if (this.#hasExited) return;
      await this.#send(this.#child.pid, signal, name);
      const timer = new AbortController();
      await Promise.race([
        this.#exited,
        delay(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined),
      ]);
      timer.abort();
    }
  }

  /**
   * Runs PostgreSQL in its own process session: a terminal's Ctrl-C reaches only the server, which stops
   * PostgreSQL last.
   */
  #spawn(offset: number): void {
    const { binaries, cluster, account, port, postgresLog } = this.#options;
    // On the command line, since no configuration file and no ALTER SYSTEM can override it there.
    const args = [
      '-D',
      cluster,
      '-p',
      String(port),
      '-c',
      'listen_addresses=127.0.0.1',
      '-c',
      'unix_socket_directories=',
    ];
    const child = spawn(programPath(binaries, 'postgres'), args, {
      ...runAs(account),
      env: programEnvironment(),
      detached: true,
      windowsHide: true,
      stdio: ['ignore', postgresLog.descriptor, postgresLog.descriptor],
    });
    child.unref();
    this.#child = child;
    // A process in 'exit' cannot wait for a clean shutdown: immediate mode, and the next start recovers from
    // the WAL.
    const abandon = () => void child.kill('SIGQUIT');
    process.once('exit', abandon);
    this.#exited = new Promise((resolve) => {
      const end = (fallback: string) => {
        this.#hasExited = true;
        process.off('exit', abandon);
        postgresLog.reasonSince(offset).then(
          (reason) => resolve(reason || fallback),
          () => resolve(fallback),
        );
      };
      child.once('error', (error) => end(error.message));
      child.once('exit', (code, signal) =>
        end(signal === null ? `exit code ${code}` : `killed by ${signal}`),
      );
    });
  }

  async #acceptsConnections(): Promise<boolean> {
    const lines = (await readIfExists(join(this.#options.cluster, 'postmaster.pid')))?.split('\n') ?? [];
    return lines[0] === String(this.#child?.pid) && lines[STATUS_LINE]?.trim() === 'ready';
  }

  /** Sends a signal. Windows has none; there PostgreSQL emulates them, and pg_ctl sends them. */
  async #send(pid: number, signal: NodeJS.Signals, name: string): Promise<void> {
    if (process.platform === 'win32')
      await runProgram(programPath(this.#options.binaries, 'pg_ctl'), ['kill', name, String(pid)]);
    else this.#child?.kill(signal);
  }
}
