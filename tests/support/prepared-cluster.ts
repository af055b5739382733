import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { silentLog } from '../../packages/server/src/lib/log.js';
import { EmbeddedPostgres } from '../../packages/server/src/postgres/embedded/embedded-postgres.js';
import {
  findPlatformPackage,
  type PlatformPackage,
} from '../../packages/server/src/postgres/embedded/platform-package.js';
import type { PostgresVersion } from './matrix.js';
import { oldPackage } from './old-postgres.js';
import { sql } from './sql.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** The code that creates clusters: when it changes, earlier prepared clusters are no longer used. */
const CLUSTER_SOURCE = join(ROOT, 'packages/server/src/postgres/embedded/cluster.ts');
/** Turns off waiting for the disk: tests kill processes but never the machine, so no write is lost. */
const FAST_SETTINGS = ['fsync = off', 'full_page_writes = off'];

const run = promisify(execFile);

/**
 * Starts a PostgreSQL in `dataDir`, which must not exist. Copies a prepared cluster, because initdb takes
 * seconds. Uses the newest version when the platform has no package of the requested one.
 */
export async function startPreparedPostgres(
  dataDir: string,
  version: PostgresVersion,
): Promise<{ postgres: EmbeddedPostgres; url: string }> {
  const shipped = (version === 'oldest' ? oldPackage() : undefined) ?? (await findPlatformPackage());
  // Only packaged versions are prepared: a system PostgreSQL may change its version at any time.
  if (shipped !== undefined) await copy(await preparedFolder(shipped), dataDir);
  const postgres = embedded(dataDir, shipped);
  const { url } = await postgres.start();
  return { postgres, url };
}

/** Creates a data folder, which must not exist, as a previous run of a server would leave it. */
export async function placePreparedCluster(dataDir: string): Promise<void> {
  const shipped = await findPlatformPackage();
  if (shipped !== undefined) await copy(await preparedFolder(shipped), dataDir);
}

/**
 * Returns the data folder of a prepared cluster in `node_modules/.cache`, created atomically on first use.
 */
async function preparedFolder(shipped: PlatformPackage): Promise<string> {
  const digest = createHash('sha256')
    .update(await readFile(CLUSTER_SOURCE))
    .update(FAST_SETTINGS.join())
    .digest('hex');
  const cache = join(ROOT, 'node_modules', '.cache');
  const folder = join(cache, `cluster-${shipped.build}-${digest.slice(0, 12)}`);
  if (existsSync(folder)) return folder;
  // The account that runs PostgreSQL may have no access to this checkout, but always has to the temporary
  // folder.
  const name = `goforward-draft-${randomBytes(6).toString('hex')}`;
  const [made, draft] = [join(tmpdir(), name), join(cache, name)];
  try {
    await make(made, shipped);
    await mkdir(cache, { recursive: true });
    await copy(made, draft);
    await rename(draft, folder);
  } catch (error) {
    // Ignore the error if another run has created the folder meanwhile.
    if (!existsSync(folder)) throw error;
  } finally {
    for (const left of [made, draft]) await rm(left, { recursive: true, force: true });
  }
  return folder;
}

async function make(dataDir: string, shipped: PlatformPackage): Promise<void> {
  const postgres = embedded(dataDir, shipped);
  try {
    const { url } = await postgres.start();
    for (const setting of FAST_SETTINGS) await sql(url, `ALTER SYSTEM SET ${setting}`);
  } finally {
    await postgres.stop();
  }
  // Each copy chooses its own port.
  await rm(join(dataDir, 'postgres-port'));
}

function embedded(dataDir: string, shipped: PlatformPackage | undefined): EmbeddedPostgres {
  return new EmbeddedPostgres({
    dataDir,
    log: silentLog,
    ...(shipped === undefined ? {} : { package: shipped }),
  });
}

/** Copies a folder with owners and permissions. */
async function copy(from: string, to: string): Promise<void> {
  await run('cp', ['-a', from, to]);
}
