import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { silentLog } from '../../packages/server/src/lib/log.js';
import { EmbeddedPostgres } from '../../packages/server/src/postgres/embedded/embedded-postgres.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The superuser's connection string of the PostgreSQL that all test files share. */
    readonly postgresUrl: string;
  }
}

/** Runs one PostgreSQL for the whole run of tests; what it returns ends it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'goforward-test-'));
  const postgres = new EmbeddedPostgres({ dataDir: folder, log: silentLog });
  const teardown = async () => {
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const { url } = await postgres.start();
    project.provide('postgresUrl', url);
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}
