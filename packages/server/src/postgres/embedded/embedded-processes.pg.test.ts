import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PostgresProgram } from '../../../../../tests/support/postgres-child.js';
import { sql } from '../../../../../tests/support/postgres-database.js';
import { placePreparedCluster } from '../../../../../tests/support/prepared-cluster.js';
import { isAlive } from './process-start.js';

const isRoot = process.getuid?.() === 0;
const NOBODY = { uid: 65_534, gid: 65_534 };

let program: PostgresProgram;
let folder: string;
let dataDir: string;

beforeAll(async () => {
  program = await PostgresProgram.build();
});

afterAll(() => program.remove());

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'goforward-processes-'));
  await chmod(folder, 0o755);
  dataDir = join(folder, 'data');
});

afterEach(() => rm(folder, { recursive: true, force: true }));

async function start(account?: typeof NOBODY) {
  const { process: child, answer } = await program.start(
    { dataDir, caches: [join(folder, 'cache')] },
    account,
  );
  if ('error' in answer) throw new Error(answer.message);
  return { child, url: answer.url };
}

async function postmasterOf(url: string): Promise<number> {
  const [row] = await sql<{ pid: number }>(
    url,
    `SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int AS pid`,
  );
  return row?.pid ?? 0;
}

describe('after a server was killed', () => {
  it('the next start stops its orphaned PostgreSQL and keeps the data', async () => {
    await placePreparedCluster(dataDir);
    const first = await start();
    await sql(first.url, 'CREATE TABLE kept AS SELECT 42 AS n');
    const orphan = await postmasterOf(first.url);
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    expect(isAlive(orphan)).toBe(true);
    const next = await start();
    expect(next.url).toBe(first.url);
    expect(await postmasterOf(next.url)).not.toBe(orphan);
    expect(await sql(next.url, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
    await program.stop(next.child);
  });

  // Other systems cannot find a process by its working directory.
  it.runIf(process.platform === 'linux')(
    'the next start stops its orphaned PostgreSQL although postmaster.pid was deleted',
    async () => {
      await placePreparedCluster(dataDir);
      const first = await start();
      await sql(first.url, 'CREATE TABLE kept AS SELECT 42 AS n');
      const orphan = await postmasterOf(first.url);
      first.child.kill('SIGKILL');
      await once(first.child, 'exit');
      await rm(join(dataDir, 'postgres/postmaster.pid'));
      const next = await start();
      expect(await postmasterOf(next.url)).not.toBe(orphan);
      expect(await sql(next.url, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
      await program.stop(next.child);
      // It was shut down cleanly: no recovery was necessary.
      expect(await readFile(join(dataDir, 'postgres.log'), 'utf8')).not.toContain('automatic recovery');
    },
  );

  it('together with its PostgreSQL, the next start succeeds', async () => {
    await placePreparedCluster(dataDir);
    const first = await start();
    const postmaster = await postmasterOf(first.url);
    first.child.kill('SIGKILL');
    process.kill(postmaster, 'SIGKILL');
    const next = await start();
    expect(next.url).toBe(first.url);
    await program.stop(next.child);
  });
});

it('a start does not stop another program whose working directory is the cluster folder', async () => {
  await placePreparedCluster(dataDir);
  const cwd = join(dataDir, 'postgres');
  const { uid, gid } = await stat(cwd);
  const shell = spawn('sleep', ['60'], { cwd, ...(isRoot ? { uid, gid } : {}) });
  try {
    await once(shell, 'spawn');
    const { child } = await start();
    expect(shell.exitCode ?? shell.signalCode).toBeNull();
    await program.stop(child);
  } finally {
    shell.kill();
  }
});

it('a second server on the folder fails with the process ID of the first, which keeps running', async () => {
  await placePreparedCluster(dataDir);
  const first = await start();
  const { answer } = await program.start({ dataDir });
  expect(answer).toEqual({
    error: 'StartupError',
    message: `Another server (process ${first.child.pid}) uses the data folder ${dataDir}. Stop it, or set REALTIME_DATA_DIR to another folder.`,
  });
  expect(await sql(first.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  await program.stop(first.child);
  await expect(sql(first.url, 'SELECT 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

describe.skipIf(!isRoot)('as an ordinary user (needs root to become one)', () => {
  beforeEach(async ({ skip }) => {
    skip(!(await program.canRunAs(NOBODY)), 'other users cannot enter this checkout');
  });

  it('the data folder belongs to that user', async () => {
    await chown(folder, NOBODY.uid, NOBODY.gid);
    const { child, url } = await start(NOBODY);
    expect(await sql(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(await stat(dataDir)).toMatchObject({ uid: NOBODY.uid, mode: 0o40700 });
    await program.stop(child);
  });

  it('a read-only folder gives a one-line error', async () => {
    const { answer } = await program.start({ dataDir }, NOBODY);
    expect(answer).toEqual({
      error: 'StartupError',
      message: `Cannot use the data folder ${dataDir} (permission denied). Set REALTIME_DATA_DIR to a folder that this account may write to, or DATABASE_URL to your own PostgreSQL.`,
    });
  });

  it('a data folder of root gives a one-line error', async () => {
    await placePreparedCluster(dataDir);
    const { answer } = await program.start({ dataDir }, NOBODY);
    expect(answer).toMatchObject({ message: expect.stringContaining('(permission denied)') });
  });

  it("root runs a user's cluster as that user, who can still start it later", async () => {
    await chown(folder, NOBODY.uid, NOBODY.gid);
    const users = await start(NOBODY);
    await program.stop(users.child);
    const roots = await start();
    expect(await stat(join(dataDir, 'postgres'))).toMatchObject({ uid: NOBODY.uid });
    await program.stop(roots.child);
    const again = await start(NOBODY);
    expect(await sql(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await program.stop(again.child);
  });
});

describe.skipIf(!isRoot)('as root', () => {
  it('the account that runs PostgreSQL becomes the owner of the data folder', async () => {
    const { child } = await start();
    const { uid, mode } = await stat(dataDir);
    expect(uid).not.toBe(0);
    expect(mode & 0o777).toBe(0o700);
    await program.stop(child);
  });

  it('a folder with other files keeps its owner, and only the cluster folder gets another one', async () => {
    await mkdir(join(dataDir, 'of somebody else'), { recursive: true });
    const { child } = await start();
    expect(await stat(dataDir)).toMatchObject({ uid: 0, mode: 0o40755 });
    expect((await stat(join(dataDir, 'postgres'))).uid).not.toBe(0);
    await program.stop(child);
  });

  it('the cluster of a data folder in a private folder goes into a cache folder, and the next start finds it', async () => {
    const home = join(folder, 'private');
    await mkdir(home, { mode: 0o700 });
    dataDir = join(home, 'project/.goforward');
    const first = await start();
    await sql(first.url, 'CREATE TABLE kept AS SELECT 42 AS n');
    expect(await readdir(dataDir)).not.toContain('postgres');
    const [beside = ''] = await readdir(join(folder, 'cache/data'));
    expect(beside).toMatch(/^\.goforward-[0-9a-f]{16}$/);
    expect((await stat(join(folder, 'cache/data', beside))).mode & 0o777).toBe(0o700);
    await program.stop(first.child);
    await chmod(home, 0o755);
    const next = await start();
    expect(await sql(next.url, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
    await program.stop(next.child);
  });
});
