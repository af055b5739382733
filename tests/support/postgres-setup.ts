import type { TestProject } from 'vitest/node';
import { SharedPostgres } from './shared-postgres.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** Followed by a version, the URL that answers the connection string of the PostgreSQL that all test files share. */
    readonly sharedPostgres: string;
  }
}

/** Serves the PostgreSQLs of a whole run of tests; what it returns ends them. */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  // Every project inherits this from the configuration: the root, whose context all of them get, does it for all.
  if (!project.isRootProject()) return undefined;
  const shared = new SharedPostgres();
  project.provide('sharedPostgres', await shared.listen());
  return () => shared.stop();
}
