import { readFile } from 'node:fs/promises';
import { runProgram } from './run-program.js';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** Fields of /proc/<pid>/stat behind the name in parentheses, which may itself hold spaces (proc(5)). */
const STATE = 0;
const START_TIME = 19;

/**
 * When the process with this number was started, as a text that no other process of that number shares;
 * undefined when there is none. Numbers are used again, soon so in containers.
 */
export async function processStart(pid: number): Promise<string | undefined> {
  if (process.platform === 'linux') return linuxStart(pid);
  if (process.platform === 'win32') return isAlive(pid) ? 'unknown' : undefined;
  const { ok, stdout } = await runProgram('ps', ['-o', 'lstart=', '-p', String(pid)]);
  return ok && stdout.trim() !== '' ? stdout.trim() : undefined;
}

/** Whether a process with this number exists, whoever's it is. */
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
    // A zombie has ended; only its parent has not asked yet.
    return fields[STATE] === 'Z' ? undefined : `${boot.trim()}/${fields[START_TIME]}`;
  } catch {
    return undefined;
  }
}
