#!/usr/bin/env node
// Makes a fresh clone, or one whose sources have changed, ready to run: installs and builds what is missing
// or older than what it is made of. Without dependencies, since it runs before there are any.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** Written by npm at the end of an installation. */
const INSTALLED = join(ROOT, 'node_modules', '.package-lock.json');
/** What the last build was made of. */
const BUILT = join(ROOT, 'node_modules', '.goforward-built');
const PACKAGES = ['protocol', 'server'];
const [MAJOR, MINOR] = process.versions.node.split('.').map(Number);

if (MAJOR < 20 || (MAJOR === 20 && MINOR < 19)) {
  fail(`Node.js 20.19 or later is needed; this is ${process.versions.node}.`);
}
if (timeOf(INSTALLED) < timeOf(join(ROOT, 'package-lock.json'))) {
  run('Installing packages', 'npm', ['ci', '--no-audit', '--no-fund']);
}
if (!existsSync(BUILT) || readFileSync(BUILT, 'utf8') !== digestOf(sources())) {
  run('Building', process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-b']);
  // Taken anew: before, the built files may have been missing.
  writeFileSync(BUILT, digestOf(sources()));
}

/** Runs a command quietly; its output is shown only when it fails. */
function run(title, command, args) {
  // To stderr: the caller may print a token, and nothing else, to stdout.
  process.stderr.write(`${title} …\n`);
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: ROOT,
    encoding: 'utf8',
    shell: process.platform === 'win32',
    env: { ...process.env, npm_config_loglevel: 'error' },
  });
  if (status === 0) return;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  fail(`${title} failed${error === undefined ? '' : `: ${error.message}`}.`);
}

/** Everything that the build is made of. */
function sources() {
  const files = ['tsconfig.json', 'tsconfig.base.json'].map((name) => join(ROOT, name));
  for (const name of PACKAGES) {
    const folder = join(ROOT, 'packages', name);
    files.push(join(folder, 'tsconfig.json'), join(folder, 'package.json'));
    for (const entry of readdirSync(join(folder, 'src'), { recursive: true, withFileTypes: true })) {
      if (entry.isFile() && entry.name.endsWith('.ts'))
        files.push(join(entry.parentPath ?? entry.path, entry.name));
    }
    // A build that somebody removed is made again.
    if (!existsSync(join(folder, 'dist'))) files.push(join(folder, 'dist'));
  }
  return files;
}

/** Names, sizes and times of the files: reading them all would take longer than it saves. */
function digestOf(files) {
  const digest = createHash('sha256');
  for (const file of files.sort()) {
    const { size, mtimeMs } = statSync(file, { throwIfNoEntry: false }) ?? { size: -1, mtimeMs: Date.now() };
    digest.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return digest.digest('hex');
}

/** When a file was last written; 0 when there is none. */
function timeOf(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
