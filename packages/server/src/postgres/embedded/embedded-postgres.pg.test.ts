import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { sql } from '../../../../../tests/support/postgres-database.js';
import { collectingLog } from '../../../../../tests/support/postgres-log-lines.js';
import { silentLog } from '../../lib/log.js';
import { StartupError } from '../../lib/startup-error.js';
import { EmbeddedPostgres } from './embedded-postgres.js';

const isRoot = process.getuid?.() === 0;

/** A data folder as a first start and a stop leave it; making one takes a second. */
let template: string;
let folder: string;
let dataDir: string;
let running: EmbeddedPostgres[];

beforeAll(async () => {
  template = await mkdtemp(join(tmpdir(), 'goforward-embedded-'));
  const postgres = new EmbeddedPostgres({ dataDir: template, log: silentLog });
  await postgres.start();
  await postgres.stop();
});

afterAll(() => rm(template, { recursive: true, force: true }));

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

/** Makes the data folder that of a server which has run before. */
async function usedBefore(): Promise<void> {
  await promisify(execFile)('cp', ['-a', template, dataDir]);
}

async function lineOf(starting: Promise<unknown>): Promise<string> {
  const error: unknown = await starting.catch((thrown: unknown) => thrown);
  if (!(error instanceof StartupError)) throw new Error('no StartupError', { cause: error });
  expect(error.message).not.toMatch(/\n/);
  return error.message;
}

async function filesLeft(): Promise<string[]> {
  const names = await readdir(dataDir).catch(() => []);
  return names.filter((name) => /server\.pid|postgres\.new/.test(name));
}

/** Waits for PostgreSQL to answer, since it may be starting again. */
function answer(url: string, text: string): Promise<object[]> {
  return vi.waitFor(() => sql(url, text), { timeout: 15_000, interval: 50 });
}

describe('the embedded PostgreSQL', () => {
  it('is made at the first start, and the second soon finds its data at the same place', async () => {
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

  it('lets in nobody without the password, which lies in a file for its owner alone', async () => {
    await usedBefore();
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

  it('gets its password back when the file was lost', async () => {
    await usedBefore();
    const first = embedded().postgres;
    const { url } = await first.start();
    await first.stop();
    await rm(join(dataDir, 'postgres-password'));
    const again = await embedded().postgres.start();
    expect(again.url).not.toBe(url);
    expect(await sql(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('takes another port when another program has its own', async () => {
    await usedBefore();
    const first = embedded().postgres;
    const { url } = await first.start();
    await first.stop();
    const thief = createServer().listen(Number(new URL(url).port), '127.0.0.1');
    await once(thief, 'listening');
    try {
      const again = await embedded().postgres.start();
      expect(new URL(again.url).port).not.toBe(new URL(url).port);
      expect(await sql(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    } finally {
      thief.close();
    }
  });

  it('is started again when it was killed, at the same place, with what was committed', async () => {
    await usedBefore();
    const { postgres, log } = embedded();
    const { url } = await postgres.start();
    await sql(url, 'CREATE TABLE kept AS SELECT 42 AS n');
    const killed = postgres.pid ?? 0;
    process.kill(killed, 'SIGKILL');
    await vi.waitFor(() => expect(postgres.pid).not.toBe(killed), { timeout: 15_000, interval: 20 });
    expect(await answer(url, 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
    expect(log.lines).toContainEqual({
      level: 'error',
      fields: { reason: expect.any(String) },
      message: 'The embedded PostgreSQL has ended; starting it again',
    });
  });

  it('writes a log of its own', async () => {
    await usedBefore();
    const { url } = await embedded().postgres.start();
    await sql(url, 'SELECT 1/0').catch(() => undefined);
    const file = join(dataDir, 'postgres.log');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await vi.waitFor(async () => expect(await readFile(file, 'utf8')).toContain('division by zero'));
  });
});

describe('a data folder that is in use', () => {
  it('is refused in one line that names the process', async () => {
    await usedBefore();
    await embedded().postgres.start();
    const line = await lineOf(embedded().postgres.start());
    expect(line).toBe(
      `Another server (in this process) uses the data folder ${dataDir}. Stop it, or set REALTIME_DATA_DIR to another folder.`,
    );
  });

  it('is free after a stop', async () => {
    await usedBefore();
    const { postgres } = embedded();
    await postgres.start();
    await postgres.stop();
    await postgres.stop();
    expect(await filesLeft()).toEqual([]);
    expect(await readdir(join(dataDir, 'postgres'))).not.toContain('postmaster.pid');
  });
});

describe('what an earlier crash left', () => {
  it('as a half-made cluster is cleared away', async () => {
    const half = join(dataDir, 'postgres.new-0a1b2c');
    await mkdir(join(half, 'base'), { recursive: true });
    await writeFile(join(half, 'PG_VERSION'), '18\n');
    await mkdir(join(dataDir, 'postgres'));
    const { url } = await embedded().postgres.start();
    expect(await sql(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(await filesLeft()).toEqual(['server.pid']);
  });

  it('as numbers that other processes have now does not stop the next start', async () => {
    await usedBefore();
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
  it('because it is a file is one line', async () => {
    await writeFile(dataDir, 'a file');
    expect(await lineOf(embedded().postgres.start())).toContain(
      `Cannot use the data folder ${dataDir} (not a folder)`,
    );
  });

  it('because it lies in a file is one line', async () => {
    await writeFile(dataDir, 'a file');
    dataDir = join(dataDir, 'deeper');
    expect(await lineOf(embedded().postgres.start())).toContain(
      `Cannot use the data folder ${dataDir} (not a folder)`,
    );
  });

  it('because something else lies in the place of the cluster is one line, and that is kept', async () => {
    await mkdir(join(dataDir, 'postgres'), { recursive: true });
    await writeFile(join(dataDir, 'postgres/precious'), 'data');
    expect(await lineOf(embedded().postgres.start())).toContain(
      'holds something that is not a PostgreSQL cluster',
    );
    expect(await readFile(join(dataDir, 'postgres/precious'), 'utf8')).toBe('data');
    expect(await filesLeft()).toEqual([]);
  });

  it('because its cluster is of another major version is one line', async () => {
    await mkdir(join(dataDir, 'postgres'), { recursive: true });
    await writeFile(join(dataDir, 'postgres/PG_VERSION'), '12\n');
    expect(await lineOf(embedded().postgres.start())).toMatch(
      /is of PostgreSQL 12, and this is PostgreSQL 18\./,
    );
  });

  it("because PostgreSQL does not accept it is one line with PostgreSQL's reason", async () => {
    await usedBefore();
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
    expect(await filesLeft()).toEqual([]);
    const { url } = await embedded().postgres.start();
    expect(await sql(url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  }

  it.each([0, 300])('that makes the cluster, after %i ms, leaves nothing behind', stopAfter);

  it.each([60, 150])('of one made before, after %i ms, leaves nothing behind', async (ms) => {
    await usedBefore();
    await stopAfter(ms);
  });
});
