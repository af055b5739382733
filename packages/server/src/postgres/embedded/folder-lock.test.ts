import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FolderLock, LOCK_FILE } from './folder-lock.js';
import { processStart } from './process-start.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'goforward-lock-'));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

function hold(content: string): Promise<void> {
  return writeFile(join(folder, LOCK_FILE), content);
}

it('is taken, given up and taken again', async () => {
  const lock = new FolderLock(folder);
  await lock.take();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
  expect(await readFile(join(folder, LOCK_FILE), 'utf8')).toMatch(new RegExp(`^${process.pid}\n.+\n$`));
  await lock.release();
  await lock.release();
  expect(await readdir(folder)).toEqual([]);
  await new FolderLock(folder).take();
});

it('is refused while its holder lives', async () => {
  await new FolderLock(folder).take();
  await expect(new FolderLock(folder).take()).rejects.toThrow(`uses the data folder ${folder}`);
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});

it('names the process that holds it', async () => {
  const other = spawn('sleep', ['60']);
  try {
    await hold(`${other.pid}\n${await processStart(other.pid ?? 0)}\n`);
    await expect(new FolderLock(folder).take()).rejects.toThrow(`(process ${other.pid})`);
  } finally {
    other.kill();
  }
});

it('is not held by a process that has ended', async () => {
  const other = spawn('sleep', ['60']);
  const start = await processStart(other.pid ?? 0);
  expect(start).toBeDefined();
  other.kill('SIGKILL');
  await once(other, 'exit');
  await hold(`${other.pid}\n${start}\n`);
  await new FolderLock(folder).take();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});

it.each([
  ['another start of a number that was used again', `${process.pid}\nanother start\n`],
  ['nothing', ''],
  ['something else', 'not a number\n'],
])('is not held by a file that says %s', async (_, content) => {
  await hold(content);
  await new FolderLock(folder).take();
  expect(await readFile(join(folder, LOCK_FILE), 'utf8')).toContain(`${process.pid}\n`);
});

it('goes to one of many who find that its holder is gone', async () => {
  for (let round = 0; round < 20; round++) {
    await hold('4194304\ngone\n');
    const locks = Array.from({ length: 8 }, () => new FolderLock(folder));
    const outcomes = await Promise.allSettled(locks.map((lock) => lock.take()));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await readdir(folder)).toEqual([LOCK_FILE]);
    await Promise.all(locks.map((lock) => lock.release()));
  }
});

it('is taken although who wanted to succeed a dead holder was killed on the way', async () => {
  await hold('4194304\ngone\n');
  const claim = `${LOCK_FILE}.after-${Buffer.from('4194304\ngone').toString('base64url')}`;
  await writeFile(join(folder, claim), '4194303\ngone too\n');
  await new FolderLock(folder).take();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});

it('that somebody else has meanwhile is left alone by a release', async () => {
  const lock = new FolderLock(folder);
  await lock.take();
  await hold('1\nanother\n');
  await lock.release();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});
