import { spawn } from 'node:child_process';
import type { Account } from './account.js';

/** How a program that was run to its end has ended. */
interface Outcome {
  readonly ok: boolean;
  readonly stdout: string;
  /** What it wrote to standard error; when it could not be run at all, why. */
  readonly stderr: string;
}

interface RunOptions {
  /** Whom to run it as, instead of ourselves. */
  readonly account?: Account | undefined;
  readonly input?: string;
  readonly signal?: AbortSignal;
}

export type RunProgram = (file: string, args: readonly string[], options?: RunOptions) => Promise<Outcome>;

const INHERITED = ['PATH', 'LD_LIBRARY_PATH', 'SystemRoot', 'TEMP', 'TMP', 'TMPDIR'] as const;

/** The environment of PostgreSQL's programs: nothing of ours changes what they do (`PGDATA`, `LC_*`, `TZ`). */
export function programEnvironment(): NodeJS.ProcessEnv {
  const inherited = INHERITED.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...Object.fromEntries(inherited), HOME: '/', LC_ALL: 'C', TZ: 'UTC' };
}

/** The part of spawn's options that makes a program another account's; our working directory may be closed to it. */
export function runAs(account: Account | undefined): { uid?: number; gid?: number; cwd?: string } {
  return {
    ...(process.platform === 'win32' ? {} : { cwd: '/' }),
    ...(account === undefined ? {} : { uid: account.uid, gid: account.gid }),
  };
}

/** A program that was told to end may clean up for so long, in ms. */
const CLEAN_UP_MS = 2_000;

/**
 * Runs a program to its end, in a session of its own so that a terminal's Ctrl-C does not reach it. Never
 * throws. `signal` ends it and whatever it started; the outcome comes when all of them have gone.
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
    // A program that ends without reading its input breaks the pipe; its exit tells more.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    let forced: NodeJS.Timeout | undefined;
    const end = () => {
      // By force at once, the PostgreSQL that initdb runs would leave its shared memory in the system for ever.
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

/** The number of a session's first process, negative, names them all (kill(2)). */
function endGroup(pid: number | undefined, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (pid === undefined) return;
  try {
    process.kill(process.platform === 'win32' ? pid : -pid, signal);
  } catch {
    // All of them have ended.
  }
}
