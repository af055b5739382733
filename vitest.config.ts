import { defineConfig } from 'vitest/config';

const everywhere = (suffix: string) => [
  `packages/*/src/**/*${suffix}`,
  `tests/**/*${suffix}`,
  `bench/**/*${suffix}`,
];

/**
 * Test files say by their suffix what they need, and each suffix is a project of its own: nothing, a
 * PostgreSQL, a whole server (in this process or as one of its own), a browser.
 */
const NEEDS = {
  pg: { testTimeout: 30_000, hookTimeout: 60_000 },
  e2e: { testTimeout: 60_000, hookTimeout: 60_000 },
  browser: { testTimeout: 60_000, hookTimeout: 120_000 },
};

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    // Every core: most tests wait for a server, a browser or a database more than they compute.
    maxWorkers: '100%',
    // No module has state, so files of one worker share what they import instead of each loading the server anew.
    isolate: false,
    globalSetup: ['tests/support/postgres-setup.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'pure',
          testTimeout: 30_000,
          include: everywhere('.test.ts'),
          exclude: Object.keys(NEEDS).flatMap((need) => everywhere(`.${need}.test.ts`)),
        },
      },
      ...Object.entries(NEEDS).map(([name, timeouts]) => ({
        extends: true as const,
        test: {
          name,
          include: everywhere(`.${name}.test.ts`),
          ...timeouts,
        },
      })),
    ],
  },
});
