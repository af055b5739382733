import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import type { Account } from './account.js';
import { type Binaries, programOf } from './binaries.js';
import type { PostgresLog } from './postgres-log.js';
import { readIfThere } from './private-file.js';
import { programEnvironment, runAs, runProgram } from './run-program.js';

const POLL_MS = 20;
/** How often a long recovery is spoken of, in ms. */
const REMIND_MS = 10_000;
/** The line of postmaster.pid that says whether connections are taken (miscadmin.h, LOCK_FILE_LINE_PM_STATUS). */
const STATUS_LINE = 7;

/** Steps to make it end, and how long each may take, in ms: fast, immediate, by force (pg_ctl(1)). */
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

/** PostgreSQL ended before it took connections; the message is its own reason. */
export class PostmasterExit extends Error {
  override readonly name = 'PostmasterExit';
}

/** One run of PostgreSQL's main process. */
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

  /** Why it has ended, in its own words, when it has. */
  get exited(): Promise<string> {
    return this.#exited;
  }

  /** Resolves when it takes connections. Throws PostmasterExit, or the reason of `signal`. */
  async start(signal: AbortSignal): Promise<void> {
    const { postgresLog, log } = this.#options;
    const offset = await postgresLog.size();
    signal.throwIfAborted();
    this.#spawn(offset);
    let remindAt = performance.now() + REMIND_MS;
    while (!(await this.#takesConnections())) {
      if (this.#hasExited) throw new PostmasterExit(await this.#exited);
      signal.throwIfAborted();
      if (performance.now() >= remindAt) {
        log.info(
          { log: postgresLog.file },
          'The embedded PostgreSQL is still starting, perhaps recovering from a crash',
        );
        remindAt += REMIND_MS;
      }
      await delay(POLL_MS);
    }
  }

  /** Fast, which ends connections and keeps everything; when that takes too long, at once, which recovers at the next start. */
  async stop(): Promise<void> {
    if (this.#child?.pid === undefined) return;
    for (const [signal, name, patience] of STEPS) {
      if (this.#hasExited) return;
      await this.#send(this.#child.pid, signal, name);
      const timer = new AbortController();
      await Promise.race([
        this.#exited,
        delay(patience, undefined, { signal: timer.signal }).catch(() => undefined),
      ]);
      timer.abort();
    }
  }

  /** In a session of its own, so that a terminal's Ctrl-C reaches only the server, which then stops it last. */
  #spawn(offset: number): void {
    const { binaries, cluster, account, port, postgresLog } = this.#options;
    // Who may connect is said here, where no file and no ALTER SYSTEM can say otherwise.
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
    const child = spawn(programOf(binaries, 'postgres'), args, {
      ...runAs(account),
      env: programEnvironment(),
      detached: true,
      windowsHide: true,
      stdio: ['ignore', postgresLog.descriptor, postgresLog.descriptor],
    });
    child.unref();
    this.#child = child;
    // A process that is made to end has no time to stop it in order: at once then, which recovers at the next start.
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

  async #takesConnections(): Promise<boolean> {
    const lines = (await readIfThere(join(this.#options.cluster, 'postmaster.pid')))?.split('\n') ?? [];
    return lines[0] === String(this.#child?.pid) && lines[STATUS_LINE]?.trim() === 'ready';
  }

  /** Windows has no signals; PostgreSQL brings its own, and a program that sends them. */
  async #send(pid: number, signal: NodeJS.Signals, name: string): Promise<void> {
    if (process.platform === 'win32')
      await runProgram(programOf(this.#options.binaries, 'pg_ctl'), ['kill', name, String(pid)]);
    else this.#child?.kill(signal);
  }
}
