import { readFile } from 'node:fs/promises';
import { runProgram } from './run-program.js';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** Fields of /proc/<pid>/stat after the name in parentheses, which may contain spaces (proc(5)). */
const STATE = 0;
const START_TIME = 19;

/**
 * Returns the start time of a process, as a text that no other process with the same ID shares; undefined
 * when there is no such process. Process IDs are reused, in containers soon.
 */
export async function processStart(pid: number): Promise<string | undefined> {
  if (process.platform === 'linux') return linuxStart(pid);
  if (process.platform === 'win32') return isAlive(pid) ? 'unknown' : undefined;
  const { ok, stdout } = await runProgram('ps', ['-o', 'lstart=', '-p', String(pid)]);
  return ok && stdout.trim() !== '' ? stdout.trim() : undefined;
}

/** Whether a process with this ID exists, of any account. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

async function linuxStart(pid: number): Promise<string | undefined> {
  try {
    const [stat, boot] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'utf8'),
      readFile(BOOT_ID, 'utf8'),
    ]);
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended; its parent has not read its exit status yet.
    return fields[STATE] === 'Z' ? undefined : `${boot.trim()}/${fields[START_TIME]}`;
  } catch {
    return undefined;
  }
}
