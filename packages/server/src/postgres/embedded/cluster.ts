import { randomBytes } from 'node:crypto';
import { appendFile, chown, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../../lib/log.js';
import { StartupError } from '../../lib/startup-error.js';
import { type Binaries, programPath } from './binaries.js';
import { CLUSTER_FOLDER } from './cluster-home.js';
import { errorCode, folderProblem } from './folder-problem.js';
import { failureReason } from './postgres-log.js';
import { readIfExists, writePrivateFile } from './private-file.js';
import { runProgram } from './run-program.js';
import type { Account } from './system-account.js';

export const SUPERUSER = 'postgres';

const DRAFT = 'postgres.new-';
const OWN_SETTINGS = 'goforward.conf';

/** Differences to PostgreSQL's defaults: logical decoding is possible, and little memory is used. */
const SETTINGS = `# Written at every start of the server. Settings of your own belong at the end of postgresql.conf.
wal_level = logical
max_wal_senders = 10
max_replication_slots = 10
max_connections = 100
shared_buffers = 64MB
max_wal_size = 512MB
password_encryption = 'scram-sha-256'
log_line_prefix = '%m [%p] '
log_checkpoints = off
logging_collector = off
log_destination = 'stderr'
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
cluster_name = 'goforward'
`;

export interface ClusterOptions {
  /** The folder that contains the cluster's folder. */
  readonly home: string;
  readonly binaries: Binaries;
  readonly account: Account | undefined;
  readonly password: string;
  readonly signal: AbortSignal;
  readonly log: Log;
}

/** Returns the major version of the cluster in `home`; undefined when there is none. */
export async function clusterMajor(home: string): Promise<number | undefined> {
  const text = await readIfExists(join(home, CLUSTER_FOLDER, 'PG_VERSION'));
  return text === undefined ? undefined : Number.parseInt(text, 10);
}

/**
 * Returns the folder of the cluster. Creates the cluster when it is missing, and writes the server's settings
 * into it.
 */
export async function openCluster(options: ClusterOptions): Promise<string> {
  const { home, binaries, account } = options;
  const cluster = join(home, CLUSTER_FOLDER);
  const major = await clusterMajor(home);
  if (major === undefined) await create(options, cluster);
  else if (major !== binaries.major) {
    throw new StartupError(
      `The data in ${cluster} was created by PostgreSQL ${major}, but this server runs PostgreSQL ${binaries.major}. Dump it with PostgreSQL ${major} and load it into a new folder, or set REALTIME_DATA_DIR to another folder.`,
    );
  }
  await writePrivateFile(join(cluster, OWN_SETTINGS), SETTINGS, { owner: account });
  return cluster;
}

/**
 * Creates the cluster under a draft name and renames it when complete: a crash leaves nothing that looks like
 * a cluster.
 */
async function create(options: ClusterOptions, cluster: string): Promise<void> {
  const { home, binaries, account, password, signal, log } = options;
  await requireAbsent(cluster);
  await removeDrafts(home);
  log.info({ folder: cluster, version: binaries.version }, 'Creating the embedded PostgreSQL');
  const draft = join(home, `${DRAFT}${randomBytes(6).toString('hex')}`);
  const passwordFile = `${draft}.password`;
  try {
    await mkdir(draft, { mode: 0o700 });
    if (account !== undefined) await chown(draft, account.uid, account.gid);
    await writePrivateFile(passwordFile, `${password}\n`, { owner: account });
    const args = initdbArguments(draft, passwordFile, binaries.major);
    const { ok, stderr } = await runProgram(programPath(binaries, 'initdb'), args, { account, signal });
    signal.throwIfAborted();
    if (!ok) throw initdbError(stderr, home);
    await appendFile(join(draft, 'postgresql.conf'), `\ninclude_if_exists = '${OWN_SETTINGS}'\n`);
    await rename(draft, cluster);
    await syncFolder(home);
  } finally {
    await removeDrafts(home);
  }
}

/** The collation is by code point and built into PostgreSQL, so the data sorts the same on every machine. */
function initdbArguments(folder: string, passwordFile: string, major: number): string[] {
  return [
    `--pgdata=${folder}`,
    `--username=${SUPERUSER}`,
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    ...(major >= 17 ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8'] : []),
    '--data-checksums',
    '--no-instructions',
  ];
}

async function requireAbsent(cluster: string): Promise<void> {
  const names = await readdir(cluster).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (names === undefined) return;
  if (names.length > 0) {
    throw new StartupError(
      `${cluster} contains files that are not a PostgreSQL cluster. Move them away, or set REALTIME_DATA_DIR to another folder.`,
    );
  }
  await rm(cluster, { recursive: true });
}

async function removeDrafts(home: string): Promise<void> {
  const names = (await readdir(home)).filter((name) => name.startsWith(DRAFT));
  await Promise.all(
    names.map((name) => rm(join(home, name), { recursive: true, force: true, maxRetries: 3 })),
  );
}

function initdbError(stderr: string, home: string): StartupError {
  const problem = folderProblem(stderr, home);
  if (problem !== undefined) return problem;
  if (/could not look up effective user ID/.test(stderr)) {
    return new StartupError(
      `The embedded PostgreSQL cannot run as user ${process.getuid?.()}, which has no name on this system. Add it to /etc/passwd, or set DATABASE_URL to your own PostgreSQL.`,
    );
  }
  const reason = failureReason(stderr).replaceAll(/\s+/g, ' ');
  return new StartupError(`The embedded PostgreSQL could not be created in ${home}: ${reason}`);
}

/** Makes a rename durable by syncing its folder (fsync(2)). Windows has no equivalent. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
