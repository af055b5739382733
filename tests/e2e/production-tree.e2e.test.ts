import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Clone } from '../support/clone.js';
import { ServerProcess } from '../support/server-process.js';
import { call } from '../support/test-server.js';

/** Allows for a compilation on a busy machine. */
const TIMEOUT_MS = 180_000;

let clone: Clone;
let fakeNpm: string;

beforeAll(() => {
  clone = new Clone();
  clone.installAndBuild();
  expect(prepare()).toMatchObject({ status: 0 });
  execFileSync('npm', ['prune', '--omit=dev', '--offline', '--no-audit', '--no-fund'], {
    cwd: clone.folder,
    stdio: 'pipe',
  });
  fakeNpm = mkdtempSync(join(tmpdir(), 'goforward-npm-'));
  writeFileSync(join(fakeNpm, 'npm'), `#!/bin/sh\necho "$@" > "${fakeNpm}/arguments"\n`, { mode: 0o755 });
}, TIMEOUT_MS);

afterAll(() => {
  clone.remove();
  rmSync(fakeNpm, { recursive: true });
});

function prepare(args: readonly string[] = [], { cwd = clone.folder, path = process.env.PATH } = {}) {
  const env = { ...process.env, PATH: path };
  const { status, stderr } = spawnSync(process.execPath, ['scripts/prepare.mjs', ...args], {
    cwd,
    env,
    encoding: 'utf8',
  });
  return { status, stderr };
}

/** Prepares with a fake npm. Returns the arguments of the npm call, or undefined without one. */
function npmCallOf(args: readonly string[]): string | undefined {
  rmSync(join(fakeNpm, 'arguments'), { force: true });
  prepare(args, { path: `${fakeNpm}:${process.env.PATH}` });
  const file = join(fakeNpm, 'arguments');
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
}

describe('a built tree after npm prune --omit=dev', () => {
  test('starts without installing or building anything', async () => {
    expect(existsSync(join(clone.folder, 'node_modules', 'typescript'))).toBe(false);
    const server = new ServerProcess('npm', ['start', '--', '--port', '0'], { cwd: clone.folder });
    await server.started();
    expect((await call(server.url, 'GET', '/healthz')).status).toBe(200);
    expect(server.stderr).not.toMatch(/Installing|Building/);
    server.kill('SIGTERM');
    expect(await server.exited).toBe(0);
  });

  test('stays current when it is copied to another path with other timestamps', () => {
    const copy = join(fakeNpm, 'copy');
    mkdirSync(copy);
    const parts = [
      'package-lock.json',
      'package.json',
      'tsconfig.json',
      'tsconfig.base.json',
      'scripts',
      'packages',
    ];
    for (const part of [...parts, join('node_modules', '.package-lock.json')])
      cpSync(join(clone.folder, part), join(copy, part), { recursive: true });
    utimesSync(join(copy, 'node_modules', '.package-lock.json'), 0, 0);
    expect(prepare([], { cwd: copy })).toEqual({ status: 0, stderr: '' });
  });

  test('installs dev dependencies only where they are needed', () => {
    expect(npmCallOf([])).toBeUndefined();
    expect(npmCallOf(['--dev'])).toBe('ci --no-audit --no-fund --include=dev');
  });

  test('installs without dev dependencies when a dependency is out of date', () => {
    const file = join(clone.folder, 'package-lock.json');
    const lock = readFileSync(file, 'utf8');
    const changed = JSON.parse(lock) as { packages: Record<string, { integrity: string }> };
    changed.packages['node_modules/fastify'] = {
      ...changed.packages['node_modules/fastify'],
      integrity: 'sha512-other',
    };
    writeFileSync(file, JSON.stringify(changed));
    expect(npmCallOf([])).toBe('ci --no-audit --no-fund --omit=dev');
    writeFileSync(file, lock);
  });

  test('explains in one line how to rebuild when its build is missing or stale', () => {
    const problemOf = () => {
      const { status, stderr } = prepare();
      return [status, stderr.trim().split('. Run: npm ci --include=dev && npm run build')[0]];
    };
    appendFileSync(join(clone.folder, 'packages/server/src/version.ts'), '// changed\n');
    expect(problemOf()).toEqual([1, 'The build is older than its sources, and TypeScript is not installed']);
    rmSync(join(clone.folder, 'packages/protocol/dist/index.js'));
    expect(problemOf()).toEqual([1, 'The server is not built, and TypeScript is not installed']);
    expect(prepare().stderr.trim().split('\n')).toHaveLength(1);
  });
});
