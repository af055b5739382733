#!/usr/bin/env node
// `npm run build`: compiles the packages and records the digest of their sources for `npm start`.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { recordBuild, sourceDigest } from './build-state.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const COMPILER = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');

if (!existsSync(COMPILER)) {
  process.stderr.write('TypeScript is not installed. Run: npm ci --include=dev\n');
  process.exit(1);
}
// Taken before the build, so that a source that changes during the build makes it stale.
const digest = sourceDigest(ROOT);
const { status } = spawnSync(process.execPath, [COMPILER, '-b'], { cwd: ROOT, stdio: 'inherit' });
if (status === 0) recordBuild(ROOT, digest);
process.exitCode = status ?? 1;
