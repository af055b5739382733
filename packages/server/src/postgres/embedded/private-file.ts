import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises';
import { errorCode } from './folder-problem.js';
import type { Account } from './system-account.js';

/**
 * O_NOFOLLOW: never follow a symbolic link, since as root we write into a folder that another account owns.
 * Undefined on Windows.
 */
const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;

/** Writes a file atomically and durably. `owner` becomes its owner, where that is not our own account. */
export async function writePrivateFile(
  file: string,
  text: string,
  { mode = 0o600, owner }: { mode?: number; owner?: Account | undefined } = {},
): Promise<void> {
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    // 'wx' fails when anything has that name already, a link included.
    const handle = await open(draft, 'wx', mode);
    try {
      await handle.writeFile(text);
      if (owner !== undefined) await handle.chown(owner.uid, owner.gid);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, file);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

/** Opens a file for appending; creates it when missing. */
export function openToAppend(file: string): Promise<FileHandle> {
  return open(file, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
}

/** Reads a text file and trims it; undefined when there is no file. */
export async function readIfExists(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
