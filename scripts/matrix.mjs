#!/usr/bin/env node
// `npm run test:matrix`: every test, on every cell of the matrix that it is about (tests/support/matrix.ts).
import { spawnSync } from 'node:child_process';

const { status } = spawnSync('npx', ['vitest', 'run', ...process.argv.slice(2)], {
  stdio: 'inherit',
  env: { ...process.env, TEST_MATRIX: 'full' },
});
process.exit(status ?? 1);
