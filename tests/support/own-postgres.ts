import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { PostgresVersion } from './matrix.js';
import { memoryFolder } from './memory-folder.js';
import { startPreparedPostgres } from './prepared-cluster.js';

/** A PostgreSQL of one test file, for tests that what other tests do to the shared one would disturb. */
export interface OwnPostgres {
  /** The superuser's connection string. */
  readonly url: string;
  stop(): Promise<void>;
}

export async function startOwnPostgres(version: PostgresVersion): Promise<OwnPostgres> {
  const folder = await mkdtemp(join(memoryFolder(), 'goforward-test-'));
  await chmod(folder, 0o755); // as root, PostgreSQL's account must be able to enter it
  const { postgres, url } = await startPreparedPostgres(join(folder, 'data'), version);
  return {
    url,
    stop: async () => {
      await postgres.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
