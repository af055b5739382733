#!/usr/bin/env node
// `npm run test:matrix`: runs every test on all cells of the test matrix that apply to it
// (tests/support/matrix.ts).
import { spawnSync } from 'node:child_process';

const { status } = spawnSync('npx', ['vitest', 'run', ...process.argv.slice(2)], {
  stdio: 'inherit',
  env: { ...process.env, TEST_MATRIX: 'full' },
});
process.exit(status ?? 1);
