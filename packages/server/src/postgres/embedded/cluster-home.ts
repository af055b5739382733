import { createHash } from 'node:crypto';
import { chmod, chown, mkdir, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Log } from '../../lib/log.js';
import { StartupError } from '../../lib/startup-error.js';
import type { Account } from './account.js';
import { isOwnFolder, openCacheFolder } from './cache-folders.js';
import { runProgram } from './run-program.js';

/** The name of the cluster's folder in its home. */
export const CLUSTER = 'postgres';

/** The part of a cache folder that holds clusters. */
const DATA = 'data';

/** What lies in a data folder of ours, and what a new volume may hold. Anything else makes it a folder that we share. */
const OURS = /^(postgres|postgres[-.].*|jwt-secret.*|server\.pid.*|lost\+found)$/;

/** Where a cluster lies, or is to lie, and whom PostgreSQL runs as there: undefined is ourselves. */
export interface ClusterHome {
  readonly home: string;
  readonly account: Account | undefined;
}

/**
 * The home of the cluster: the data folder, which is given to the account that runs PostgreSQL. Where a
 * parent of the data folder is closed to that account, as a private home is, the cluster goes into a cache
 * folder under a name derived from the data folder's, and the log says so. A cluster that is there already
 * is run by its owner, whom nobody can stand in for.
 */
export async function openHome(
  dataDir: string,
  preferred: Account | undefined,
  caches: readonly string[],
  log: Log,
): Promise<ClusterHome> {
  const account = preferred && ((await clusterOwner(dataDir)) ?? preferred);
  await giveTo(dataDir, account);
  if (account === undefined) return { home: dataDir, account };
  const hasCluster = await isFolder(join(dataDir, CLUSTER));
  const earlier = hasCluster ? undefined : await earlierBeside(dataDir, caches);
  if (earlier === undefined && (await canEnter(dataDir, account))) return { home: dataDir, account };
  const beside = earlier ?? (hasCluster ? undefined : await newBeside(dataDir, account, caches));
  if (beside === undefined) {
    throw new StartupError(
      `PostgreSQL does not run as root, and the account that runs it (${account.name}) cannot enter ${dataDir}. Set REALTIME_DATA_DIR to a folder whose parents every account may enter.`,
    );
  }
  const owner = (await clusterOwner(beside)) ?? account;
  await mkdir(beside, { recursive: true, mode: 0o700 });
  await giveTo(beside, owner);
  log.warn(
    { dataDir, folder: join(beside, CLUSTER), account: owner.name },
    'The account that runs PostgreSQL cannot enter the data folder; the data of PostgreSQL lies elsewhere',
  );
  return { home: beside, account: owner };
}

/** The home in a cache folder that has a cluster from an earlier start: it stays, even when the data folder has been opened. */
async function earlierBeside(dataDir: string, caches: readonly string[]): Promise<string | undefined> {
  for (const cache of caches) {
    const home = join(cache, DATA, nameFor(dataDir));
    const isOurs = (await isOwnFolder(cache)) && (await isOwnFolder(join(cache, DATA)));
    if (isOurs && (await isFolder(join(home, CLUSTER)))) return home;
  }
  return undefined;
}

async function newBeside(
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
  const stats = await stat(join(home, CLUSTER)).catch(() => undefined);
  if (stats === undefined || stats.uid === 0) return undefined;
  return { name: `uid ${stats.uid}`, uid: stats.uid, gid: stats.gid };
}

/** Makes a folder of ours private to the account. A folder that holds other things too is left as it is. */
async function giveTo(folder: string, account: Account | undefined): Promise<void> {
  const [stats, names] = await Promise.all([stat(folder), readdir(folder)]);
  if (!names.every((name) => OURS.test(name))) return;
  if (process.platform === 'win32') return;
  if (account !== undefined && stats.uid !== account.uid) await chown(folder, account.uid, account.gid);
  else if (account === undefined && stats.uid !== process.getuid?.()) return;
  if ((stats.mode & 0o777) !== 0o700) await chmod(folder, 0o700);
}

/** The system decides, since permissions are more than mode bits. */
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
