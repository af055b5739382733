import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../lib/log.js';
import type { Account } from './account.js';
import { readIfThere, writePrivately } from './private-file.js';
import { isAlive, processStart } from './process-start.js';
import { runProgram } from './run-program.js';

const PID_FILE = 'postmaster.pid';
const POLL_MS = 20;

/** Steps to make a PostgreSQL end, and how long each may take, in ms: fast, immediate, by force (pg_ctl(1)). */
const STEPS = [
  ['SIGINT', 15_000],
  ['SIGQUIT', 5_000],
  ['SIGKILL', 5_000],
] as const;
/** Children whose postmaster is gone end by themselves when they notice. */
const CHILD_PATIENCE_MS = 2_000;

/**
 * Ends whatever of an earlier PostgreSQL still runs on the cluster: a whole one whose server was killed, or
 * children whose postmaster was. Then makes the `postmaster.pid` that it left harmless: PostgreSQL would not
 * start when another process has got that number since.
 */
export async function endOrphanedProcesses(
  cluster: string,
  account: Account | undefined,
  log: Log,
): Promise<void> {
  const file = join(cluster, PID_FILE);
  const content = await readIfThere(file);
  // Somebody may have removed the file under a PostgreSQL that lives. Only Linux can find it all the same.
  if (content === undefined && process.platform !== 'linux') return;
  const named = Number.parseInt(content ?? '', 10);
  for (const [signal, patience] of STEPS) {
    const running = await processesIn(cluster, named, account);
    if (running.length === 0) break;
    const postmaster = content === undefined ? await parentOf(running) : named;
    const first = running.includes(postmaster) ? [postmaster] : running;
    log.info({ pids: first, signal }, 'Ending a PostgreSQL that an earlier server left running');
    for (const pid of signal === 'SIGKILL' ? running : first) send(pid, signal);
    await gone(running, running.includes(postmaster) ? patience : Math.min(patience, CHILD_PATIENCE_MS));
  }
  const left = await readIfThere(file);
  if (left === undefined || process.platform === 'win32') return;
  // PostgreSQL passes over a file that names its own parent, and still looks at the shared memory that the
  // other lines name: so it does not start beside a child that we have not seen.
  await writePrivately(file, [process.pid, ...left.split('\n').slice(1), ''].join('\n'), { owner: account });
}

/** The processes that run on the cluster: PostgreSQL's have their working directory in it, as a shell may. */
async function processesIn(
  cluster: string,
  postmaster: number,
  account: Account | undefined,
): Promise<number[]> {
  if (process.platform !== 'linux') {
    return isAlive(postmaster) && (await isPostgres(postmaster, cluster)) ? [postmaster] : [];
  }
  const folder = await realpath(cluster);
  const found = await (account === undefined ? workingIn(folder) : workingInSeenBy(account, folder));
  const names = await Promise.all(found.map((pid) => readProcess(pid, 'comm')));
  return found.filter((_, index) => names[index]?.trim() === 'postgres');
}

/** The process that all the others are children of; NaN when there is none. */
async function parentOf(running: readonly number[]): Promise<number> {
  const parents = await Promise.all(
    running.map(async (pid) => Number(/^PPid:\s*(\d+)/m.exec(await readProcess(pid, 'status'))?.[1])),
  );
  const [first = Number.NaN, ...more] = running.filter((_, index) => !running.includes(parents[index] ?? 0));
  return more.length === 0 ? first : Number.NaN;
}

/** A file of a process in /proc that everybody may read; empty when the process has ended (proc(5)). */
function readProcess(pid: number, file: 'comm' | 'status'): Promise<string> {
  return readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');
}

async function workingIn(folder: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => ((await readlink(`/proc/${pid}/cwd`).catch(() => '')) === folder ? [pid] : [])),
  );
  return found.flat();
}

/** In a container not even root may look at another account's processes; the account itself may. */
async function workingInSeenBy(account: Account, folder: string): Promise<number[]> {
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

async function gone(pids: readonly number[], patienceMs: number): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (performance.now() < deadline) {
    const starts = await Promise.all(pids.map(processStart));
    if (starts.every((start) => start === undefined)) return;
    await delay(POLL_MS);
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}
