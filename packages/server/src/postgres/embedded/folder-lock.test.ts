import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, readlink, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
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
  expect(await readFile(join(folder, LOCK_FILE), 'utf8')).toMatch(new RegExp(`^${process.pid}\n.+\n.+\n$`));
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

it('once taken is alone: what others left that were killed while they tried is removed', async () => {
  const living = `${LOCK_FILE}.after-living`;
  await writeFile(join(folder, `${LOCK_FILE}.after-b2xkZXI`), '4194303\ngone\n');
  await writeFile(join(folder, `${LOCK_FILE}.0a1b2c3d4e5f`), '4194303\ngone\n');
  await writeFile(join(folder, living), `${process.pid}\n${await processStart(process.pid)}\n`);
  await writeFile(join(folder, 'server.pidgin'), '4194303\ngone\n');
  await new FolderLock(folder).take();
  expect((await readdir(folder)).sort()).toEqual([LOCK_FILE, living, 'server.pidgin']);
});

describe('whose holder is in another container, where numbers mean other processes', () => {
  const file = () => join(folder, LOCK_FILE);

  async function age(seconds: number): Promise<void> {
    const then = new Date(Date.now() - seconds * 1000);
    await utimes(file(), then, then);
  }

  it.runIf(process.platform === 'linux')('says where its own number is valid', async () => {
    await new FolderLock(folder).take();
    const [, , space] = (await readFile(file(), 'utf8')).split('\n');
    expect(space).toBe(await readlink('/proc/self/ns/pid'));
  });

  it('is refused while the file is young', async () => {
    await hold(`${process.pid}\nsome start\npid:[1]\n`);
    await age(8);
    await expect(new FolderLock(folder).take()).rejects.toThrow(
      `Another server (process ${process.pid}, perhaps in another container) uses the data folder ${folder}. Stop it, or set REALTIME_DATA_DIR to another folder; one that was killed is waited for at most ten seconds after its end.`,
    );
    expect(await readdir(folder)).toEqual([LOCK_FILE]);
  });

  it.each([
    ['old', 11],
    ['of a time to come, as after a clock was set back', -3600],
  ])('is taken when the file is %s, whatever the number means here', async (_, seconds) => {
    await hold(`${process.pid}\n${await processStart(process.pid)}\npid:[1]\n`);
    await age(seconds);
    await new FolderLock(folder).take();
    expect(await readFile(file(), 'utf8')).not.toContain('pid:[1]');
  });

  it('stays young while it is held, and is left alone afterwards', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      const lock = new FolderLock(folder);
      await lock.take();
      await age(60);
      vi.advanceTimersByTime(2_000);
      await vi.waitFor(async () => expect(Date.now() - (await stat(file())).mtimeMs).toBeLessThan(30_000));
      await lock.release();
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('does not keep the file of a successor young', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      await new FolderLock(folder).take();
      await hold('1\nanother\npid:[1]\n');
      await age(60);
      vi.advanceTimersByTime(2_000);
      vi.useRealTimers();
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(Date.now() - (await stat(file())).mtimeMs).toBeGreaterThan(30_000);
    } finally {
      vi.useRealTimers();
    }
  });
});

it('that somebody else has meanwhile is left alone by a release', async () => {
  const lock = new FolderLock(folder);
  await lock.take();
  await hold('1\nanother\n');
  await lock.release();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});
