import { spawn } from 'node:child_process';
import type { Account } from './system-account.js';

/** The result of a program that has ended. */
interface Outcome {
  readonly ok: boolean;
  readonly stdout: string;
  /** Its standard error; when it could not be started, the reason. */
  readonly stderr: string;
}

interface RunOptions {
  /** The account to run it as, instead of our own. */
  readonly account?: Account | undefined;
  readonly input?: string;
  readonly signal?: AbortSignal;
}

export type RunProgram = (file: string, args: readonly string[], options?: RunOptions) => Promise<Outcome>;

const INHERITED = ['PATH', 'LD_LIBRARY_PATH', 'SystemRoot', 'TEMP', 'TMP', 'TMPDIR'] as const;

/**
 * Returns the environment for PostgreSQL's programs, without variables that change what they do (`PGDATA`,
 * `LC_*`, `TZ`).
 */
export function programEnvironment(): NodeJS.ProcessEnv {
  const inherited = INHERITED.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...Object.fromEntries(inherited), HOME: '/', LC_ALL: 'C', TZ: 'UTC' };
}

/**
 * Returns options of spawn that run a program as `account`. The working directory is `/`, since ours may be
 * closed to it.
 */
export function runAs(account: Account | undefined): { uid?: number; gid?: number; cwd?: string } {
  return {
    ...(process.platform === 'win32' ? {} : { cwd: '/' }),
    ...(account === undefined ? {} : { uid: account.uid, gid: account.gid }),
  };
}

/** How long a program may clean up after SIGTERM, in ms. */
const CLEAN_UP_MS = 2_000;

/**
 * Runs a program to its end, in its own process session so that a terminal's Ctrl-C does not reach it. Never
 * rejects. `signal` ends the program and its children; the promise resolves when all of them have ended.
 */
export const runProgram: RunProgram = (file, args, { account, input, signal } = {}) =>
  new Promise((resolve) => {
    const child = spawn(file, args, {
      ...runAs(account),
      env: programEnvironment(),
      detached: process.platform !== 'win32',
      windowsHide: true,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    // A program that ends without reading its input breaks the pipe; its exit code says more.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    let forced: NodeJS.Timeout | undefined;
    const end = () => {
      // With SIGKILL at once, the PostgreSQL that initdb runs would leave its shared memory behind for ever.
      endGroup(child.pid, 'SIGTERM');
      forced = setTimeout(() => endGroup(child.pid, 'SIGKILL'), CLEAN_UP_MS);
    };
    if (signal?.aborted) end();
    else signal?.addEventListener('abort', end, { once: true });
    const finish = (ok: boolean, error = stderr) => {
      signal?.removeEventListener('abort', end);
      clearTimeout(forced);
      resolve({ ok, stdout, stderr: error });
    };
    child.on('error', (error) => finish(false, error.message));
    child.on('close', (code) => finish(code === 0));
  });

/** Sends a signal to a program and its children: a negative process ID names the process group (kill(2)). */
function endGroup(pid: number | undefined, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (pid === undefined) return;
  try {
    process.kill(process.platform === 'win32' ? pid : -pid, signal);
  } catch {
    // All of them have ended.
  }
}
