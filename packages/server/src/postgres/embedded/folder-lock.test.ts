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

function writeLock(content: string): Promise<void> {
  return writeFile(join(folder, LOCK_FILE), content);
}

it('the folder lock is taken, released and taken again', async () => {
  const lock = new FolderLock(folder);
  await lock.take();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
  expect(await readFile(join(folder, LOCK_FILE), 'utf8')).toMatch(new RegExp(`^${process.pid}\n.+\n.+\n$`));
  await lock.release();
  await lock.release();
  expect(await readdir(folder)).toEqual([]);
  await new FolderLock(folder).take();
});

it('the folder lock is refused while its holder is alive', async () => {
  await new FolderLock(folder).take();
  await expect(new FolderLock(folder).take()).rejects.toThrow(`uses the data folder ${folder}`);
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});

it('the folder lock is refused with an error that names the process of the holder', async () => {
  const other = spawn('sleep', ['60']);
  try {
    await writeLock(`${other.pid}\n${await processStart(other.pid ?? 0)}\n`);
    await expect(new FolderLock(folder).take()).rejects.toThrow(`(process ${other.pid})`);
  } finally {
    other.kill();
  }
});

it('the folder lock is not held by a process that has ended', async () => {
  const other = spawn('sleep', ['60']);
  const start = await processStart(other.pid ?? 0);
  expect(start).toBeDefined();
  other.kill('SIGKILL');
  await once(other, 'exit');
  await writeLock(`${other.pid}\n${start}\n`);
  await new FolderLock(folder).take();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});

it.each([
  ['a reused process ID with another start time', `${process.pid}\nanother start\n`],
  ['no content', ''],
  ['other content', 'not a number\n'],
])('the folder lock is not held by a file with %s', async (_, content) => {
  await writeLock(content);
  await new FolderLock(folder).take();
  expect(await readFile(join(folder, LOCK_FILE), 'utf8')).toContain(`${process.pid}\n`);
});

it('the folder lock is taken over from a dead holder by exactly one of many processes', async () => {
  for (let round = 0; round < 20; round++) {
    await writeLock('4194304\ngone\n');
    const locks = Array.from({ length: 8 }, () => new FolderLock(folder));
    const outcomes = await Promise.allSettled(locks.map((lock) => lock.take()));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await readdir(folder)).toEqual([LOCK_FILE]);
    await Promise.all(locks.map((lock) => lock.release()));
  }
});

it('the folder lock is taken over although another process was killed while taking it over', async () => {
  await writeLock('4194304\ngone\n');
  const claim = `${LOCK_FILE}.after-${Buffer.from('4194304\ngone').toString('base64url')}`;
  await writeFile(join(folder, claim), '4194303\ngone too\n');
  await new FolderLock(folder).take();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});

it('the folder lock removes the drafts and claims of processes that were killed while taking it', async () => {
  const living = `${LOCK_FILE}.after-living`;
  await writeFile(join(folder, `${LOCK_FILE}.after-b2xkZXI`), '4194303\ngone\n');
  await writeFile(join(folder, `${LOCK_FILE}.0a1b2c3d4e5f`), '4194303\ngone\n');
  await writeFile(join(folder, living), `${process.pid}\n${await processStart(process.pid)}\n`);
  await writeFile(join(folder, 'server.pidgin'), '4194303\ngone\n');
  await new FolderLock(folder).take();
  expect((await readdir(folder)).sort()).toEqual([LOCK_FILE, living, 'server.pidgin']);
});

describe('the folder lock with a holder in another container, which has process IDs of its own', () => {
  const file = () => join(folder, LOCK_FILE);

  async function setAge(seconds: number): Promise<void> {
    const then = new Date(Date.now() - seconds * 1000);
    await utimes(file(), then, then);
  }

  it.runIf(process.platform === 'linux')('contains the PID namespace of its process', async () => {
    await new FolderLock(folder).take();
    const [, , namespace] = (await readFile(file(), 'utf8')).split('\n');
    expect(namespace).toBe(await readlink('/proc/self/ns/pid'));
  });

  it('is refused while the file is recent', async () => {
    await writeLock(`${process.pid}\nsome start\npid:[1]\n`);
    await setAge(8);
    await expect(new FolderLock(folder).take()).rejects.toThrow(
      `Another server (process ${process.pid}, perhaps in another container) uses the data folder ${folder}. Stop it, or set REALTIME_DATA_DIR to another folder. The lock of a killed server expires after ten seconds.`,
    );
    expect(await readdir(folder)).toEqual([LOCK_FILE]);
  });

  it.each([
    ['old', 11],
    ['dated in the future, as after the clock was set back', -3600],
  ])('is taken when the file is %s, whatever the process ID means here', async (_, seconds) => {
    await writeLock(`${process.pid}\n${await processStart(process.pid)}\npid:[1]\n`);
    await setAge(seconds);
    await new FolderLock(folder).take();
    expect(await readFile(file(), 'utf8')).not.toContain('pid:[1]');
  });

  it('keeps its file recent while it is held, and stops after release', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      const lock = new FolderLock(folder);
      await lock.take();
      await setAge(60);
      vi.advanceTimersByTime(2_000);
      await vi.waitFor(async () => expect(Date.now() - (await stat(file())).mtimeMs).toBeLessThan(30_000));
      await lock.release();
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('does not update the file after another holder has replaced it', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      await new FolderLock(folder).take();
      await writeLock('1\nanother\npid:[1]\n');
      await setAge(60);
      vi.advanceTimersByTime(2_000);
      vi.useRealTimers();
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(Date.now() - (await stat(file())).mtimeMs).toBeGreaterThan(30_000);
    } finally {
      vi.useRealTimers();
    }
  });
});

it('the folder lock is not removed by release when another process has it meanwhile', async () => {
  const lock = new FolderLock(folder);
  await lock.take();
  await writeLock('1\nanother\n');
  await lock.release();
  expect(await readdir(folder)).toEqual([LOCK_FILE]);
});
