import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { join } from 'node:path';
import { openCacheFolder } from './cache-folders.js';
import { codeOf } from './folder-problem.js';
import { type PlatformPackage, repairLinks } from './platform-package.js';

/** For building programs against PostgreSQL, half of the package. */
const NOT_NEEDED = /\.a$|^pkgconfig$|^include$/;

/**
 * The folder of a copy of the programs in `folder`, complete and with its links; one that is there already is
 * used again. Undefined when it cannot be made there.
 */
export async function copyBinaries(source: PlatformPackage, folder: string): Promise<string | undefined> {
  if (!(await openCacheFolder(folder))) return undefined;
  const copy = join(folder, source.build);
  if (await isComplete(source.native, copy)) return copy;
  const draft = join(folder, `.${source.build}.${randomBytes(6).toString('hex')}`);
  try {
    await copyTree(source.native, draft);
    await repairLinks(draft);
    await replace(copy, draft);
    return copy;
  } catch {
    return undefined;
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/** Puts the finished draft in its place. Another process may do the same just now: one copy is as good as the other. */
async function replace(copy: string, draft: string): Promise<void> {
  await rename(copy, `${draft}.old`).catch(ignoreMissing);
  await rename(draft, copy).catch((error: unknown) => {
    if (codeOf(error) !== 'ENOTEMPTY' && codeOf(error) !== 'EEXIST') throw error;
  });
  await rm(`${draft}.old`, { recursive: true, force: true });
}

/** Whether every file of the source is in the copy: a cleaner of temporary files takes them one by one. */
async function isComplete(source: string, copy: string): Promise<boolean> {
  for (const entry of await readdir(source, { withFileTypes: true })) {
    if (NOT_NEEDED.test(entry.name)) continue;
    const [from, to] = [join(source, entry.name), join(copy, entry.name)];
    if (entry.isDirectory()) {
      if (!(await isComplete(from, to))) return false;
    } else if ((await sizeOf(to)) !== (await sizeOf(from))) return false;
  }
  return true;
}

async function sizeOf(file: string): Promise<number | undefined> {
  return stat(file).then(
    ({ size }) => size,
    () => undefined,
  );
}

async function copyTree(source: string, target: string): Promise<void> {
  await mkdir(target);
  await chmod(target, 0o755);
  for (const entry of await readdir(source, { withFileTypes: true })) {
    if (NOT_NEEDED.test(entry.name)) continue;
    const [from, to] = [join(source, entry.name), join(target, entry.name)];
    if (entry.isDirectory()) await copyTree(from, to);
    else if (entry.isSymbolicLink()) await symlink(await readlink(from), to);
    else {
      await copyFile(from, to, constants.COPYFILE_FICLONE);
      const { mode } = await lstat(from);
      await chmod(to, (mode & 0o100) === 0 ? 0o644 : 0o755);
    }
  }
}

function ignoreMissing(error: unknown): void {
  if (codeOf(error) !== 'ENOENT') throw error;
}
