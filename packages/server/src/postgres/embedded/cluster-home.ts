import { createHash } from 'node:crypto';
import { chmod, chown, mkdir, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Log } from '../../lib/log.js';
import { StartupError } from '../../lib/startup-error.js';
import { isOwnFolder, openCacheFolder } from './cache-folders.js';
import { runProgram } from './run-program.js';
import type { Account } from './system-account.js';

/** The name of the cluster's folder in its home folder. */
export const CLUSTER_FOLDER = 'postgres';

/** The subfolder of a cache folder that holds clusters. */
const DATA = 'data';

/** Files of the server's data folder, and of a new volume. Any other file makes it a shared folder. */
const OWN_FILES = /^(postgres|postgres[-.].*|jwt-secret.*|server\.pid.*|lost\+found)$/;

/**
 * The folder of a cluster, existing or new, and the account that runs PostgreSQL there (undefined: our own).
 */
export interface ClusterHome {
  readonly home: string;
  readonly account: Account | undefined;
}

/**
 * Chooses the home of the cluster and makes the account that runs PostgreSQL its owner. Normally that is the
 * data folder. Where a parent of it is closed to that account, as a private home directory is, the cluster
 * goes into a cache folder under a name derived from the data folder, and the log says so. An existing
 * cluster is always run by its owner: PostgreSQL accepts no other account. Throws StartupError when no folder
 * can be used.
 */
export async function openClusterHome(
  dataDir: string,
  preferred: Account | undefined,
  caches: readonly string[],
  log: Log,
): Promise<ClusterHome> {
  const account = preferred && ((await clusterOwner(dataDir)) ?? preferred);
  await makePrivateFor(dataDir, account);
  if (account === undefined) return { home: dataDir, account };
  const hasCluster = await isFolder(join(dataDir, CLUSTER_FOLDER));
  const existing = hasCluster ? undefined : await existingFallback(dataDir, caches);
  if (existing === undefined && (await canEnter(dataDir, account))) return { home: dataDir, account };
  const fallback = existing ?? (hasCluster ? undefined : await newFallback(dataDir, account, caches));
  if (fallback === undefined) {
    throw new StartupError(
      `PostgreSQL does not run as root, and the account that runs it (${account.name}) cannot enter ${dataDir}. Set REALTIME_DATA_DIR to a folder whose parents every account may enter.`,
    );
  }
  const owner = (await clusterOwner(fallback)) ?? account;
  await mkdir(fallback, { recursive: true, mode: 0o700 });
  await makePrivateFor(fallback, owner);
  log.warn(
    { dataDir, folder: join(fallback, CLUSTER_FOLDER), account: owner.name },
    'The account that runs PostgreSQL cannot enter the data folder; its data is stored in another folder',
  );
  return { home: fallback, account: owner };
}

/**
 * Finds a home in a cache folder with a cluster of a previous start. It stays in use even when the data
 * folder is accessible now.
 */
async function existingFallback(dataDir: string, caches: readonly string[]): Promise<string | undefined> {
  for (const cache of caches) {
    const home = join(cache, DATA, nameFor(dataDir));
    const isOurs = (await isOwnFolder(cache)) && (await isOwnFolder(join(cache, DATA)));
    if (isOurs && (await isFolder(join(home, CLUSTER_FOLDER)))) return home;
  }
  return undefined;
}

async function newFallback(
  dataDir: string,
  account: Account,
  caches: readonly string[],
): Promise<string | undefined> {
  for (const cache of caches) {
    const data = join(cache, DATA);
    const isOpen =
      (await openCacheFolder(cache)) && (await openCacheFolder(data)) && (await canEnter(data, account));
    if (isOpen) return join(data, nameFor(dataDir));
  }
  return undefined;
}

async function clusterOwner(home: string): Promise<Account | undefined> {
  const stats = await stat(join(home, CLUSTER_FOLDER)).catch(() => undefined);
  if (stats === undefined || stats.uid === 0) return undefined;
  return { name: `uid ${stats.uid}`, uid: stats.uid, gid: stats.gid };
}

/**
 * Makes the account the owner of the folder, with mode 0700. A folder with other files in it stays unchanged.
 */
async function makePrivateFor(folder: string, account: Account | undefined): Promise<void> {
  const [stats, names] = await Promise.all([stat(folder), readdir(folder)]);
  if (!names.every((name) => OWN_FILES.test(name))) return;
  if (process.platform === 'win32') return;
  if (account !== undefined && stats.uid !== account.uid) await chown(folder, account.uid, account.gid);
  else if (account === undefined && stats.uid !== process.getuid?.()) return;
  if ((stats.mode & 0o777) !== 0o700) await chmod(folder, 0o700);
}

/** Tries it, since permissions are more than mode bits. */
async function canEnter(folder: string, account: Account): Promise<boolean> {
  return (await runProgram('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], { account })).ok;
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}

function nameFor(dataDir: string): string {
  return `${basename(dataDir)}-${createHash('sha256').update(dataDir).digest('hex').slice(0, 16)}`;
}
