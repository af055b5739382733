import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

const filesWith = (suffix: string) => [
  `packages/*/src/**/*${suffix}`,
  `tests/**/*${suffix}`,
  `bench/**/*${suffix}`,
];

/**
 * The projects with their timeouts. The suffix of a test file names its project and what it needs: `pg`
 * PostgreSQL, `e2e` a server (in this process or a child process), `browser` a browser. Other test files need
 * nothing.
 */
const TIMEOUTS = {
  pg: { testTimeout: 30_000, hookTimeout: 60_000 },
  e2e: { testTimeout: 60_000, hookTimeout: 60_000 },
  browser: { testTimeout: 60_000, hookTimeout: 120_000 },
};

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    // One worker more than cores: most tests wait for a server, a browser or a database rather than compute.
    maxWorkers: availableParallelism() + 1,
    // Modules have no state, so the files of one worker share their imports instead of each loading the
    // server.
    isolate: false,
    globalSetup: ['tests/support/postgres-setup.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'pure',
          testTimeout: 30_000,
          include: filesWith('.test.ts'),
          exclude: Object.keys(TIMEOUTS).flatMap((project) => filesWith(`.${project}.test.ts`)),
        },
      },
      ...Object.entries(TIMEOUTS).map(([name, timeouts]) => ({
        extends: true as const,
        test: {
          name,
          include: filesWith(`.${name}.test.ts`),
          ...timeouts,
        },
      })),
    ],
  },
});
