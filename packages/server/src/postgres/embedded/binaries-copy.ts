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
import { errorCode } from './folder-problem.js';
import { type PlatformPackage, repairLinks } from './platform-package.js';

/** Files for building programs against PostgreSQL: half of the package, and not needed to run it. */
const BUILD_FILES = /\.a$|^pkgconfig$|^include$/;

/**
 * Copies the package's programs into `folder`, with their links, and returns the path of the copy. Reuses a
 * complete copy. Returns undefined when the copy cannot be created there.
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

/**
 * Renames the finished draft to the copy. Another process may do the same at this moment; either copy will
 * do.
 */
async function replace(copy: string, draft: string): Promise<void> {
  await rename(copy, `${draft}.old`).catch(ignoreMissing);
  await rename(draft, copy).catch((error: unknown) => {
    if (errorCode(error) !== 'ENOTEMPTY' && errorCode(error) !== 'EEXIST') throw error;
  });
  await rm(`${draft}.old`, { recursive: true, force: true });
}

/** Whether every file of the source is in the copy: cleaners of temporary files delete single files. */
async function isComplete(source: string, copy: string): Promise<boolean> {
  for (const entry of await readdir(source, { withFileTypes: true })) {
    if (BUILD_FILES.test(entry.name)) continue;
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
    if (BUILD_FILES.test(entry.name)) continue;
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
  if (errorCode(error) !== 'ENOENT') throw error;
}
