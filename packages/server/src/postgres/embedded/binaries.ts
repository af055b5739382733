import { join } from 'node:path';
import type { Log } from '../../lib/log.js';
import { StartupError } from '../../lib/startup-error.js';
import type { Account } from './account.js';
import { copyBinaries } from './binaries-copy.js';
import { machineFolders } from './machine-postgres.js';
import { findPlatformPackage, type PlatformPackage, repairLinks } from './platform-package.js';
import { runProgram } from './run-program.js';

/** PostgreSQL's programs, in a folder where the account that runs them can. */
export interface Binaries {
  readonly folder: string;
  /** `18.4` */
  readonly version: string;
  readonly major: number;
}

const OLDEST_MAJOR = 14;
const VERSION = /^\w+ \(PostgreSQL\) ((\d+)\S*)/;

/** The path of one of the programs. */
export function programOf({ folder }: { folder: string }, name: 'postgres' | 'initdb' | 'pg_ctl'): string {
  return join(folder, process.platform === 'win32' ? `${name}.exe` : name);
}

/**
 * The programs to use: those of the npm package where they lie, a copy of them in a cache folder where
 * `account` cannot run those, or else a PostgreSQL found on the machine. `wanted` is the major version of
 * data that is there already; it decides between several on the machine.
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
  const ours = shipped === undefined ? undefined : await shippedBinaries(shipped, account, caches, log);
  const binaries = ours ?? (await machineBinaries(account, wanted));
  if (binaries !== undefined) return binaries;
  throw new StartupError(
    `There is no PostgreSQL for ${process.platform}-${process.arch} to run. Set DATABASE_URL to a PostgreSQL of yours, or install PostgreSQL ${OLDEST_MAJOR} or later on this machine.`,
  );
}

async function shippedBinaries(
  shipped: PlatformPackage,
  account: Account | undefined,
  caches: readonly string[],
  log: Log,
): Promise<Binaries | undefined> {
  const folder = join(shipped.native, 'bin');
  const isWhole = await repairLinks(shipped.native).then(
    () => true,
    () => false,
  );
  if (isWhole) {
    const inPlace = await runnable(folder, account);
    if (inPlace !== undefined) return inPlace;
    // Not even we can run them: they are for another C library, and so would be a copy.
    if ((await runnable(folder, undefined)) === undefined) return undefined;
  }
  for (const cache of caches) {
    const copy = await copyBinaries(shipped, cache);
    const binaries = copy === undefined ? undefined : await runnable(join(copy, 'bin'), account);
    if (binaries === undefined) continue;
    log.info({ folder: binaries.folder }, 'The embedded PostgreSQL runs from a copy of its programs');
    return binaries;
  }
  return undefined;
}

async function machineBinaries(
  account: Account | undefined,
  wanted: number | undefined,
): Promise<Binaries | undefined> {
  const tried = await Promise.all((await machineFolders()).map((folder) => runnable(folder, account)));
  const usable = tried.filter((found) => found !== undefined).filter(({ major }) => major >= OLDEST_MAJOR);
  const newest = usable.toSorted((a, b) => b.major - a.major)[0];
  return usable.find(({ major }) => major === wanted) ?? newest;
}

/** The programs in `folder`, when `account` can run them: their libraries are found, and their parents may be entered. */
async function runnable(folder: string, account: Account | undefined): Promise<Binaries | undefined> {
  const [postgres, initdb] = await Promise.all([
    runProgram(programOf({ folder }, 'postgres'), ['--version'], { account }),
    runProgram(programOf({ folder }, 'initdb'), ['--version'], { account }),
  ]);
  const [, version, major] = VERSION.exec(postgres.stdout) ?? [];
  if (!postgres.ok || !initdb.ok || version === undefined) return undefined;
  return { folder, version, major: Number(major) };
}
