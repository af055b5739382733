import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { makePrivateFolder } from './private-folder.js';

let root: string;
const mode = (path: string) => statSync(path).mode & 0o777;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'goforward-folder-'));
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

it('a new folder is accessible to its owner only, and its new parents to others too', async () => {
  const folder = join(root, 'app', 'nested', 'data');
  await makePrivateFolder(folder);
  expect([mode(folder), mode(join(root, 'app')), mode(join(root, 'app', 'nested'))]).toEqual([
    0o700, 0o755, 0o755,
  ]);
});

it('an existing folder or file is left unchanged', async () => {
  await makePrivateFolder(join(root, 'data'));
  await makePrivateFolder(join(root, 'data'));
  writeFileSync(join(root, 'file'), '');
  await makePrivateFolder(join(root, 'file'));
  expect(statSync(join(root, 'file')).isFile()).toBe(true);
  await expect(makePrivateFolder(join(root, 'file', 'data'))).rejects.toThrow(/EEXIST|ENOTDIR/);
});
