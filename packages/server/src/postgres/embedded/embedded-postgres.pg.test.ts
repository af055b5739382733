import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sql } from '../../../../../tests/support/postgres-database.js';
import { collectingLog } from '../../../../../tests/support/postgres-log-lines.js';
import { placePreparedCluster } from '../../../../../tests/support/prepared-cluster.js';
import { StartupError } from '../../lib/startup-error.js';
import { EmbeddedPostgres } from './embedded-postgres.js';

const isRoot = process.getuid?.() === 0;

let folder: string;
let dataDir: string;
let running: EmbeddedPostgres[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'goforward-embedded-'));
  await chmod(folder, 0o755); // as root, PostgreSQL's account must be able to enter it
  dataDir = join(folder, 'data');
  running = [];
});

afterEach(async () => {
  await Promise.all(running.map((postgres) => postgres.stop()));
  await rm(folder, { recursive: true, force: true });
});

function embedded() {
  const log = collectingLog();
  const postgres = new EmbeddedPostgres({ dataDir, log, caches: [join(folder, 'cache')] });
  running.push(postgres);
  return { postgres, log };
}

async function lineOf(starting: Promise<unknown>): Promise<string> {
  const error: unknown = await starting.catch((thrown: unknown) => thrown);
  if (!(error instanceof StartupError)) throw new Error('no StartupError', { cause: error });
  expect(error.message).not.toMatch(/\n/);
  return error.message;
}

async function lockAndDraftFiles(): Promise<string[]> {
  const names = await readdir(dataDir).catch(() => []);
  return names.filter((name) => /server\.pid|postgres\.new/.test(name));
}

/** Queries PostgreSQL, repeatedly since it may be restarting. */
function queryWhenUp(url: string, text: string): Promise<object[]> {
  return vi.waitFor(() => sql(url, text), { timeout: 15_000, interval: 50 });
}

describe('the embedded PostgreSQL', () => {
  it('is created at the first start, and the second start is quick and keeps data and URL', async () => {
    const first = embedded().postgres;
    const { url } = await first.start();
    expect(url).toMatch(/^postgres:\/\/postgres:[\w-]{32}@127\.0\.0\.1:\d+\/postgres$/);
    await sql(url, 'CREATE TABLE kept AS SELECT 42 AS n');
    const [settings] = await sql<Record<string, string>>(
      url,
      `SELECT current_setting('wal_level') AS wal_level, current_setting('listen_addresses') AS addresses,
              current_setting('unix_socket_directories') AS sockets, current_setting('fsync') AS fsync,
              current_setting('server_encoding') AS encoding, 'b' < 'C' COLLATE "default" AS by_language`,
    );
    expect(settings).toEqual({
      wal_level: 'logical',
      addresses: '127.0.0.1',
      sockets: '',
      fsync: 'on',
      encoding: 'UTF8',
      by_language: false,
    });
    await first.stop();
    const since = performance.now();
    const again = await embedded().postgres.start();
    expect(performance.now() - since).toBeLessThan(5_000);
    expect(again.url).toBe(url);
    expect(await sql(url, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
  });

  it('requires the password, which is in a file that only its owner can read', async () => {
    await placePreparedCluster(dataDir);
    const { url } = await embedded().postgres.start();
    const file = join(dataDir, 'postgres-password');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
    expect(url).toContain(`:${(await readFile(file, 'utf8')).trim()}@`);
    const other = Object.assign(new URL(url), { password: 'wrong' }).href;
    await expect(sql(other, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
    const rules = await readFile(join(dataDir, 'postgres/pg_hba.conf'), 'utf8');
    expect(rules).not.toMatch(/^[^#]*\b(trust|md5|password|peer|ident)$/m);
  });

  it('gets a new password when the password file was lost', async () => {
    await placePreparedCluster(dataDir);
    const first = embedded().postgres;
    const { url } = await first.start();
    await first.stop();
    await rm(join(dataDir, 'postgres-password'));
    const again = await embedded().postgres.start();
    expect(again.url).not.toBe(url);
    expect(await sql(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('uses another port when another program has taken its own', async () => {
    await placePreparedCluster(dataDir);
    const first = embedded().postgres;
    const { url } = await first.start();
    await first.stop();
    const otherServer = createServer().listen(Number(new URL(url).port), '127.0.0.1');
    await once(otherServer, 'listening');
    try {
      const again = await embedded().postgres.start();
      expect(new URL(again.url).port).not.toBe(new URL(url).port);
      expect(await sql(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    } finally {
      otherServer.close();
    }
  });

  it('is restarted on the same port after it was killed, with all committed data', async () => {
    await placePreparedCluster(dataDir);
    const { postgres, log } = embedded();
    const { url } = await postgres.start();
    await sql(url, 'CREATE TABLE kept AS SELECT 42 AS n');
    const killed = postgres.pid ?? 0;
    process.kill(killed, 'SIGKILL');
    await vi.waitFor(() => expect(postgres.pid).not.toBe(killed), { timeout: 15_000, interval: 20 });
    expect(await queryWhenUp(url, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
    expect(log.lines).toContainEqual({
      level: 'error',
      fields: { reason: expect.any(String) },
      message: 'The embedded PostgreSQL ended unexpectedly; restarting it',
    });
  });

  it('writes its own log to postgres.log', async () => {
    await placePreparedCluster(dataDir);
    const { url } = await embedded().postgres.start();
    await sql(url, 'SELECT 1/0').catch(() => undefined);
    const file = join(dataDir, 'postgres.log');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await vi.waitFor(async () => expect(await readFile(file, 'utf8')).toContain('division by zero'));
  });
});

describe('a data folder that is in use', () => {
  it('is rejected with a one-line error that names the process', async () => {
    await placePreparedCluster(dataDir);
    await embedded().postgres.start();
    const line = await lineOf(embedded().postgres.start());
    expect(line).toBe(
      `Another server (in this process) uses the data folder ${dataDir}. Stop it, or set REALTIME_DATA_DIR to another folder.`,
    );
  });

  it('is free after a stop', async () => {
    await placePreparedCluster(dataDir);
    const { postgres } = embedded();
    await postgres.start();
    await postgres.stop();
    await postgres.stop();
    expect(await lockAndDraftFiles()).toEqual([]);
    expect(await readdir(join(dataDir, 'postgres'))).not.toContain('postmaster.pid');
  });
});

describe('after a crash', () => {
  it('the next start removes a half-created cluster', async () => {
    const half = join(dataDir, 'postgres.new-0a1b2c');
    await mkdir(join(half, 'base'), { recursive: true });
    await writeFile(join(half, 'PG_VERSION'), '18\n');
    await mkdir(join(dataDir, 'postgres'));
    const { url } = await embedded().postgres.start();
    expect(await sql(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(await lockAndDraftFiles()).toEqual(['server.pid']);
  });

  it('the next start succeeds although other processes have the process IDs in the lock files', async () => {
    await placePreparedCluster(dataDir);
    const first = embedded().postgres;
    const { url } = await first.start();
    await first.stop();
    const owner = await stat(join(dataDir, 'postgres'));
    const other = spawn('sleep', ['60'], isRoot ? { uid: owner.uid, gid: owner.gid } : {});
    try {
      await writeFile(join(dataDir, 'server.pid'), `${process.pid}\nanother start\n`);
      const lines = [
        other.pid,
        join(dataDir, 'postgres'),
        1,
        new URL(url).port,
        '',
        '127.0.0.1',
        '0 0',
        'ready',
      ];
      await writeFile(join(dataDir, 'postgres/postmaster.pid'), `${lines.join('\n')}\n`, { mode: 0o644 });
      await embedded().postgres.start();
      expect(await sql(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
      expect(other.exitCode ?? other.signalCode).toBeNull();
    } finally {
      other.kill();
    }
  });
});

describe('a folder that cannot be used', () => {
  it('because it is a file gives a one-line error', async () => {
    await writeFile(dataDir, 'a file');
    expect(await lineOf(embedded().postgres.start())).toContain(
      `Cannot use the data folder ${dataDir} (not a folder)`,
    );
  });

  it('because its parent is a file gives a one-line error', async () => {
    await writeFile(dataDir, 'a file');
    dataDir = join(dataDir, 'deeper');
    expect(await lineOf(embedded().postgres.start())).toContain(
      `Cannot use the data folder ${dataDir} (not a folder)`,
    );
  });

  it('because its cluster folder has other files gives a one-line error and keeps the files', async () => {
    await mkdir(join(dataDir, 'postgres'), { recursive: true });
    await writeFile(join(dataDir, 'postgres/precious'), 'data');
    expect(await lineOf(embedded().postgres.start())).toContain(
      'contains files that are not a PostgreSQL cluster',
    );
    expect(await readFile(join(dataDir, 'postgres/precious'), 'utf8')).toBe('data');
    expect(await lockAndDraftFiles()).toEqual([]);
  });

  it('because its cluster has another major version gives a one-line error', async () => {
    await mkdir(join(dataDir, 'postgres'), { recursive: true });
    await writeFile(join(dataDir, 'postgres/PG_VERSION'), '12\n');
    expect(await lineOf(embedded().postgres.start())).toMatch(
      /was created by PostgreSQL 12, but this server runs PostgreSQL 18\./,
    );
  });

  it("because PostgreSQL rejects its settings gives a one-line error with PostgreSQL's reason", async () => {
    await placePreparedCluster(dataDir);
    const first = embedded().postgres;
    await first.start();
    await first.stop();
    await writeFile(join(dataDir, 'postgres/postgresql.conf'), 'shared_buffers = nonsense\n', { flag: 'a' });
    const line = await lineOf(embedded().postgres.start());
    expect(line).toContain('The embedded PostgreSQL did not start: ');
    expect(line).toContain('shared_buffers');
    expect(line).toContain(join(dataDir, 'postgres.log'));
  });
});

describe('a stop during the start', () => {
  async function stopAfter(ms: number): Promise<void> {
    const { postgres } = embedded();
    const starting = postgres.start().catch((error: unknown) => error);
    await delay(ms);
    await postgres.stop();
    const outcome = await starting;
    if (outcome instanceof Error) expect(outcome).toMatchObject({ name: 'AbortError' });
    expect(await lockAndDraftFiles()).toEqual([]);
    const { url } = await embedded().postgres.start();
    expect(await sql(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  }

  it.each([0, 300])('that creates the cluster, after %i ms, leaves nothing behind', stopAfter);

  it.each([60, 150])('on an existing cluster, after %i ms, leaves nothing behind', async (ms) => {
    await placePreparedCluster(dataDir);
    await stopAfter(ms);
  });
});
