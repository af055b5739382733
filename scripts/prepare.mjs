#!/usr/bin/env node
// Prepares a clone to run: installs packages and builds if they are missing or out of date. With --dev it
// also installs dev dependencies. It has no dependencies of its own, because it runs before any are
// installed.
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
  fail(`Node.js 20.19 or later is required; this is ${process.versions.node}.`);
}
install();
build();

/**
 * Installs missing packages. A clone installed without dev dependencies stays without them unless they are
 * needed.
 */
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
      `${problem}, and TypeScript is not installed. Run: npm ci --include=dev && npm run build (and then npm prune --omit=dev to remove dev dependencies again)`,
    );
  }
  run('Building', process.execPath, [join(ROOT, 'scripts', 'build.mjs')]);
}

/** Runs a command quietly; its output is shown only when it fails. */
function run(title, command, args) {
  // To stderr, because the calling script may print only a token to stdout.
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
