import type { TestProject } from 'vitest/node';
import { SharedPostgres } from './shared-postgres.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** URL prefix: with a version appended, it returns the connection string of the shared PostgreSQL. */
    readonly sharedPostgres: string;
  }
}

/** Serves the shared PostgreSQL servers of a test run; returns a function that stops them. */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  // Every project inherits this setup. Only the root runs it, because all projects inherit the root's
  // context.
  if (!project.isRootProject()) return undefined;
  const shared = new SharedPostgres();
  project.provide('sharedPostgres', await shared.listen());
  return () => shared.stop();
}
