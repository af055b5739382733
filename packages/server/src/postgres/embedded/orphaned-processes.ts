import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import { readIfExists, writePrivateFile } from './private-file.js';
import { isAlive, processStart } from './process-start.js';
import { runProgram } from './run-program.js';
import type { Account } from './system-account.js';

const PID_FILE = 'postmaster.pid';
const POLL_MS = 20;

/** Signals that stop PostgreSQL (fast, immediate, by force: pg_ctl(1)), and how long each may take, in ms. */
const STEPS = [
  ['SIGINT', 15_000],
  ['SIGQUIT', 5_000],
  ['SIGKILL', 5_000],
] as const;
/** How long to wait for children of a dead postmaster, which end by themselves when they notice. */
const CHILD_TIMEOUT_MS = 2_000;

/**
 * Ends processes of an earlier PostgreSQL that still run on the cluster: a complete one whose server was
 * killed, or children of a postmaster that was killed. Then makes a leftover `postmaster.pid` harmless:
 * PostgreSQL would not start where another process has got that process ID since.
 */
export async function endOrphanedProcesses(
  cluster: string,
  account: Account | undefined,
  log: Log,
): Promise<void> {
  const file = join(cluster, PID_FILE);
  const content = await readIfExists(file);
  // The file may have been deleted under a running PostgreSQL. Only on Linux can that one still be found.
  if (content === undefined && process.platform !== 'linux') return;
  const pidInFile = Number.parseInt(content ?? '', 10);
  for (const [signal, timeoutMs] of STEPS) {
    const running = await processesIn(cluster, pidInFile, account);
    if (running.length === 0) break;
    const postmaster = content === undefined ? await parentOf(running) : pidInFile;
    const targets = running.includes(postmaster) ? [postmaster] : running;
    log.info({ pids: targets, signal }, 'Stopping orphaned PostgreSQL processes of an earlier server');
    for (const pid of signal === 'SIGKILL' ? running : targets) sendSignal(pid, signal);
    await waitUntilEnded(
      running,
      running.includes(postmaster) ? timeoutMs : Math.min(timeoutMs, CHILD_TIMEOUT_MS),
    );
  }
  const left = await readIfExists(file);
  if (left === undefined || process.platform === 'win32') return;
  // PostgreSQL ignores a file with its own parent's process ID, but still checks the shared memory that the
  // other lines name: so it does not start beside a child that was not found here.
  await writePrivateFile(file, [process.pid, ...left.split('\n').slice(1), ''].join('\n'), {
    owner: account,
  });
}

/**
 * Returns the PostgreSQL processes whose working directory is the cluster. A shell may be there too, so the
 * name counts.
 */
async function processesIn(
  cluster: string,
  postmaster: number,
  account: Account | undefined,
): Promise<number[]> {
  if (process.platform !== 'linux') {
    return isAlive(postmaster) && (await isPostgres(postmaster, cluster)) ? [postmaster] : [];
  }
  const folder = await realpath(cluster);
  const found = await (account === undefined
    ? findByWorkingDirectory(folder)
    : findByWorkingDirectoryAs(account, folder));
  const names = await Promise.all(found.map((pid) => readProcess(pid, 'comm')));
  return found.filter((_, index) => names[index]?.trim() === 'postgres');
}

/** Returns the process that is the parent of all the others; NaN when there is none. */
async function parentOf(running: readonly number[]): Promise<number> {
  const parents = await Promise.all(
    running.map(async (pid) => Number(/^PPid:\s*(\d+)/m.exec(await readProcess(pid, 'status'))?.[1])),
  );
  const [parent = Number.NaN, ...more] = running.filter((_, index) => !running.includes(parents[index] ?? 0));
  return more.length === 0 ? parent : Number.NaN;
}

/** Reads a file of a process in /proc that all users may read; empty when the process has ended (proc(5)). */
function readProcess(pid: number, file: 'comm' | 'status'): Promise<string> {
  return readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');
}

async function findByWorkingDirectory(folder: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => ((await readlink(`/proc/${pid}/cwd`).catch(() => '')) === folder ? [pid] : [])),
  );
  return found.flat();
}

/** Runs the search as `account`: in a container not even root may inspect another account's processes. */
async function findByWorkingDirectoryAs(account: Account, folder: string): Promise<number[]> {
  const { stdout } = await runProgram('/bin/sh', ['-c', 'ls -ld /proc/[0-9]*/cwd'], { account });
  return stdout.split('\n').flatMap((line) => {
    const [, pid, target] = /\/proc\/(\d+)\/cwd -> (.*)$/.exec(line) ?? [];
    return target === folder ? [Number(pid)] : [];
  });
}

async function isPostgres(pid: number, cluster: string): Promise<boolean> {
  if (process.platform === 'win32') return false;
  const { stdout } = await runProgram('ps', ['-o', 'command=', '-p', String(pid)]);
  return stdout.includes(cluster);
}

async function waitUntilEnded(pids: readonly number[], timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    const starts = await Promise.all(pids.map(processStart));
    if (starts.every((start) => start === undefined)) return;
    await delay(POLL_MS);
  }
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // The process has ended meanwhile.
  }
}
