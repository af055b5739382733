import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { silentLog } from '../../packages/server/src/lib/log.js';
import { EmbeddedPostgres } from '../../packages/server/src/postgres/embedded/embedded-postgres.js';
import type { PlatformPackage } from '../../packages/server/src/postgres/embedded/platform-package.js';
import { oldPackage } from './old-postgres.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The superuser's connection string of the PostgreSQL that all test files share. */
    readonly postgresUrl: string;
    /** That of the oldest PostgreSQL that we support; empty where there is no package of it for this platform. */
    readonly oldPostgresUrl: string;
  }
}

/** Runs the PostgreSQL of a whole run of tests, an old one beside it (not for browsers); what it returns ends them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const running: (() => Promise<void>)[] = [];
  const teardown = async () => {
    await Promise.all(running.map((stop) => stop()));
  };
  const run = async (shipped?: PlatformPackage) => {
    const folder = await mkdtemp(join(tmpdir(), 'goforward-test-'));
    const postgres = new EmbeddedPostgres({
      dataDir: folder,
      log: silentLog,
      ...(shipped === undefined ? {} : { package: shipped }),
    });
    running.push(async () => {
      await postgres.stop();
      await rm(folder, { recursive: true, force: true });
    });
    return (await postgres.start()).url;
  };
  const old = project.name === 'browser' ? undefined : oldPackage();
  try {
    const [url, oldUrl] = await Promise.all([run(), old === undefined ? '' : run(old)]);
    project.provide('postgresUrl', url);
    project.provide('oldPostgresUrl', oldUrl);
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}
