import { join } from 'node:path';
import type { Log } from '../../lib/log.js';
import { StartupError } from '../../lib/startup-error.js';
import { copyBinaries } from './binaries-copy.js';
import { installedPostgresFolders } from './installed-postgres.js';
import { findPlatformPackage, type PlatformPackage, repairLinks } from './platform-package.js';
import { runProgram } from './run-program.js';
import type { Account } from './system-account.js';

/** PostgreSQL's programs, in a folder from which the chosen account can run them. */
export interface Binaries {
  readonly folder: string;
  /** `18.4` */
  readonly version: string;
  readonly major: number;
}

const OLDEST_MAJOR = 14;
const VERSION = /^\w+ \(PostgreSQL\) ((\d+)\S*)/;

/** Returns the path of one of the programs. */
export function programPath({ folder }: { folder: string }, name: 'postgres' | 'initdb' | 'pg_ctl'): string {
  return join(folder, process.platform === 'win32' ? `${name}.exe` : name);
}

/**
 * Finds the PostgreSQL programs to use, in this order: those of the npm package in place; a copy of them in a
 * cache folder, where `account` cannot run the originals; a PostgreSQL installed on the machine. `wanted` is
 * the major version of existing data: among several installed versions it is preferred, else the newest is
 * used. Throws StartupError when there is none.
 */
export async function findBinaries(options: {
  account: Account | undefined;
  caches: readonly string[];
  wanted: number | undefined;
  log: Log;
  package?: PlatformPackage | undefined;
}): Promise<Binaries> {
  const { account, caches, wanted, log } = options;
  const shipped = 'package' in options ? options.package : await findPlatformPackage();
  const packaged = shipped === undefined ? undefined : await packagedBinaries(shipped, account, caches, log);
  const binaries = packaged ?? (await installedBinaries(account, wanted));
  if (binaries !== undefined) return binaries;
  throw new StartupError(
    `No PostgreSQL programs found for ${process.platform}-${process.arch}. Set DATABASE_URL to your own PostgreSQL, or install PostgreSQL ${OLDEST_MAJOR} or later on this machine.`,
  );
}

async function packagedBinaries(
  shipped: PlatformPackage,
  account: Account | undefined,
  caches: readonly string[],
  log: Log,
): Promise<Binaries | undefined> {
  const folder = join(shipped.native, 'bin');
  const hasLinks = await repairLinks(shipped.native).then(
    () => true,
    () => false,
  );
  if (hasLinks) {
    const inPlace = await runnableIn(folder, account);
    if (inPlace !== undefined) return inPlace;
    // If our own account cannot run them either, they need another C library, and a copy would not help.
    if ((await runnableIn(folder, undefined)) === undefined) return undefined;
  }
  for (const cache of caches) {
    const copy = await copyBinaries(shipped, cache);
    const binaries = copy === undefined ? undefined : await runnableIn(join(copy, 'bin'), account);
    if (binaries === undefined) continue;
    log.info({ folder: binaries.folder }, 'The embedded PostgreSQL runs from a copy of its programs');
    return binaries;
  }
  return undefined;
}

async function installedBinaries(
  account: Account | undefined,
  wanted: number | undefined,
): Promise<Binaries | undefined> {
  const candidates = await Promise.all(
    (await installedPostgresFolders()).map((folder) => runnableIn(folder, account)),
  );
  const usable = candidates
    .filter((found) => found !== undefined)
    .filter(({ major }) => major >= OLDEST_MAJOR);
  const newest = usable.toSorted((a, b) => b.major - a.major)[0];
  return usable.find(({ major }) => major === wanted) ?? newest;
}

/**
 * Returns the programs in `folder`, or undefined when `account` cannot run them (missing library, closed
 * parent folder).
 */
async function runnableIn(folder: string, account: Account | undefined): Promise<Binaries | undefined> {
  const [postgres, initdb] = await Promise.all([
    runProgram(programPath({ folder }, 'postgres'), ['--version'], { account }),
    runProgram(programPath({ folder }, 'initdb'), ['--version'], { account }),
  ]);
  const [, version, major] = VERSION.exec(postgres.stdout) ?? [];
  if (!postgres.ok || !initdb.ok || version === undefined) return undefined;
  return { folder, version, major: Number(major) };
}
