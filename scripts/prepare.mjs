#!/usr/bin/env node
// Prepares a clone to run: installs packages and builds where these are missing or out of date. With --dev it also
// installs dev dependencies. Without dependencies of its own, since it runs before there are any.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildState } from './build-state.mjs';
import { installState } from './install-state.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const needsDev = process.argv.includes('--dev');
const [MAJOR, MINOR] = process.versions.node.split('.').map(Number);

if (MAJOR < 20 || (MAJOR === 20 && MINOR < 19)) {
  fail(`Node.js 20.19 or later is needed; this is ${process.versions.node}.`);
}
install();
build();

/** A tree installed without dev dependencies stays one unless they are needed. */
function install() {
  const installed = installState(ROOT);
  const isProductionTree = installed !== undefined && !installed.hasDev && !needsDev;
  if (isProductionTree ? installed.production : installed?.development) return;
  const scope = needsDev ? ['--include=dev'] : isProductionTree ? ['--omit=dev'] : [];
  run('Installing packages', 'npm', ['ci', '--no-audit', '--no-fund', ...scope]);
}

function build() {
  const state = buildState(ROOT);
  if (state === 'current') return;
  if (!existsSync(join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'))) {
    const problem = state === 'missing' ? 'The server is not built' : 'The build is older than its sources';
    fail(
      `${problem}, and TypeScript is not installed. Run: npm ci --include=dev && npm run build (then, for a tree without dev dependencies, npm prune --omit=dev)`,
    );
  }
  run('Building', process.execPath, [join(ROOT, 'scripts', 'build.mjs')]);
}

/** Runs a command quietly; its output is shown only when it fails. */
function run(title, command, args) {
  // To stderr: the caller may print a token, and nothing else, to stdout.
  process.stderr.write(`${title} …\n`);
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: ROOT,
    encoding: 'utf8',
    shell: process.platform === 'win32' && command === 'npm',
    env: { ...process.env, npm_config_loglevel: 'error' },
  });
  if (status === 0) return;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  fail(`${title} failed${error === undefined ? '' : `: ${error.message}`}.`);
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
