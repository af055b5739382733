import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { eventually } from '../../../../../tests/support/eventually.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { collectingLog } from '../../../../../tests/support/postgres-log-lines.js';
import { TlsPostgresProxy } from '../../../../../tests/support/tls-postgres-proxy.js';
import { Database } from './database.js';
import { POOLS, type PoolName } from './pool-sizes.js';

const DROPPED = new Error('nobody waits for this');

let test: TestDatabase;
let db: Database;
let log: ReturnType<typeof collectingLog>;
/** The process IDs of stopped backends. */
let stopped: Set<number>;

beforeEach(async () => {
  test = await createTestDatabase();
  stopped = new Set();
  log = collectingLog();
  db = await connect(test.url);
});

afterEach(async () => {
  for (const pid of stopped) resume(pid);
  await db.stop();
  await test.drop();
});

async function connect(url: string): Promise<Database> {
  const database = new Database({
    url,
    log,
    maxReconnectDelayMs: 100,
    onReady: async () => undefined,
    applicationName: test.name,
  });
  await database.start();
  return database;
}

/** Returns the server's statements that run now and contain `text`. */
function running(text: string): Promise<{ pid: number }[]> {
  return sql(
    test.url,
    `SELECT pid FROM pg_stat_activity
     WHERE application_name = '${test.name}' AND state = 'active' AND query LIKE '%${text}%' AND pid <> pg_backend_pid()`,
  );
}

function hasStarted(text: string, count = 1): Promise<void> {
  return eventually(async () => expect(await running(text)).toHaveLength(count));
}

function hasEnded(text: string): Promise<void> {
  return eventually(async () => expect(await running(text)).toEqual([]), 2_000);
}

function resume(pid: number): void {
  stopped.delete(pid);
  process.kill(pid, 'SIGCONT');
}

/** Starts a transaction and stops its backend in the middle of a statement, so that it cannot be cancelled. */
async function stuckStatement(
  text: string,
  options: { signal?: AbortSignal; limitMs?: number },
  pool: PoolName = 'own',
) {
  let pid = 0;
  const result = db.pool(pool).transaction(async (own) => {
    const [row] = await own.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    pid = row?.pid ?? 0;
    await own.query(`SELECT pg_sleep(60) AS ${text}`);
  }, options);
  result.catch(() => undefined);
  await hasStarted(text);
  process.kill(pid, 'SIGSTOP');
  stopped.add(pid);
  return { result, pid };
}

describe('a statement whose signal aborts', () => {
  it('is cancelled if it runs, alone or in a transaction, and rejects with the reason', async () => {
    const dropped = new AbortController();
    const { signal } = dropped;
    const alone = db.query('SELECT pg_sleep(60) AS alone', [], { signal });
    const within = db.transaction((own) => own.query('SELECT pg_sleep(60) AS within'), { signal });
    const both = Promise.all([expect(alone).rejects.toBe(DROPPED), expect(within).rejects.toBe(DROPPED)]);
    await hasStarted('pg_sleep', 2);
    dropped.abort(DROPPED);
    await hasEnded('pg_sleep');
    await both;
    expect(db.state).toEqual({ status: 'up' });
    expect(await db.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('is cancelled over TLS', async () => {
    const proxy = new TlsPostgresProxy(test.url);
    const encrypted = await connect(await proxy.open());
    try {
      const dropped = new AbortController();
      const query = encrypted.query('SELECT pg_sleep(60) AS encrypted', [], { signal: dropped.signal });
      const refused = expect(query).rejects.toBe(DROPPED);
      await hasStarted('encrypted');
      const before = proxy.encrypted;
      dropped.abort(DROPPED);
      await hasEnded('encrypted');
      await refused;
      expect(proxy.encrypted).toBeGreaterThan(before);
    } finally {
      await encrypted.stop();
      proxy.close();
    }
  });

  it('never starts if it waits for a connection, and rejects at once', async () => {
    const others = new AbortController();
    const busy = Array.from({ length: POOLS.own.connections }, () =>
      db.query('SELECT pg_sleep(60) AS busy', [], { signal: others.signal }),
    );
    const refused = Promise.all(busy.map((each) => expect(each).rejects.toBe(DROPPED)));
    await hasStarted('busy', POOLS.own.connections);
    await sql(test.url, 'CREATE TABLE started (n int)');
    const dropped = new AbortController();
    const waiting = db.query('INSERT INTO started VALUES (1)', [], { signal: dropped.signal });
    dropped.abort(DROPPED);
    await expect(waiting).rejects.toBe(DROPPED);
    others.abort(DROPPED);
    await refused;
    expect(await db.query('SELECT count(*)::int AS n FROM public.started')).toEqual([{ n: 0 }]);
  });

  it('does not begin if it has aborted before', async () => {
    const query = vi.fn(async () => undefined);
    await expect(db.transaction(query, { signal: AbortSignal.abort(DROPPED) })).rejects.toBe(DROPPED);
    expect(query).not.toHaveBeenCalled();
  });

  it('never cancels a statement of somebody else on the same connections', async () => {
    const counts = { answered: 0, cancelled: 0 };
    const isDone = () => counts.answered > 50 && counts.cancelled > 20;
    const honest = async () => {
      while (!isDone()) {
        await db.transaction((own) => own.query('SELECT pg_sleep(random() * 0.004)'));
        counts.answered += 1;
      }
    };
    const hostile = async () => {
      while (!isDone()) {
        const dropped = new AbortController();
        const query = db.query('SELECT pg_sleep(random() * 0.008)', [], { signal: dropped.signal });
        setTimeout(() => dropped.abort(DROPPED), Math.random() * 8);
        await query.catch((error: unknown) => {
          if (error !== DROPPED) throw error;
          counts.cancelled += 1;
        });
      }
    };
    await Promise.all([honest(), honest(), honest(), hostile(), hostile(), hostile(), hostile()]);
    expect(db.state).toEqual({ status: 'up' });
  });
});

describe('a statement that PostgreSQL cannot interrupt', () => {
  it('is abandoned two seconds after it was cancelled, and the second one stops its pool, and no other, until one ends', async () => {
    const [one, other] = [new AbortController(), new AbortController()];
    const first = await stuckStatement('first', { signal: one.signal }, 'replays');
    const second = await stuckStatement('second', { signal: other.signal }, 'replays');
    const user = (pool: PoolName = 'replays') => db.pool(pool).query('SELECT 1 AS one');
    one.abort(DROPPED);
    await expect(first.result).rejects.toBe(DROPPED);
    expect(await user()).toEqual([{ one: 1 }]);
    other.abort(DROPPED);
    await expect(second.result).rejects.toBe(DROPPED);
    await expect(user()).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE', body: { retry_after: 1 } });
    for (const pool of ['own', 'evaluation', 'conditions'] as const)
      expect(await user(pool)).toEqual([{ one: 1 }]);
    expect(new Map(db.poolUses()).get('replays')).toEqual({ inUse: 2, abandoned: 2 });
    const warned = log.lines.filter(({ level }) => level === 'warn').map(({ fields }) => fields.pid);
    expect(warned).toEqual([first.pid, second.pid]);
    expect(db.state).toEqual({ status: 'up' });
    resume(second.pid);
    await eventually(async () => expect(await user()).toEqual([{ one: 1 }]));
  });

  it('fails like one over its statement_timeout when it takes longer than its limit, and the database stays up', async () => {
    // Longer than the time after which an unanswered statement makes the pool connect once more.
    const { result } = await stuckStatement('limited', { limitMs: 8_000 });
    await expect(result).rejects.toMatchObject({ code: '57014' });
    expect(db.state).toEqual({ status: 'up' });
    expect(await db.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });
});

describe('the database stays up', () => {
  it('while all connections are in use for longer than a caller waits for one', async () => {
    const busy = Array.from({ length: POOLS.own.connections }, () => db.query('SELECT pg_sleep(6) AS busy'));
    await hasStarted('busy', POOLS.own.connections);
    await expect(db.query('SELECT 1')).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(db.state).toEqual({ status: 'up' });
    await Promise.all(busy);
  });

  it('when more callers wait than the pool has room for: the others are refused at once', async () => {
    const all = await Promise.allSettled(
      Array.from({ length: 400 }, () => db.query('SELECT pg_sleep(0.01)')),
    );
    expect(all.filter(({ status }) => status === 'rejected').length).toBeGreaterThanOrEqual(100);
    expect(db.state).toEqual({ status: 'up' });
  });

  it.each(['57P01', '08006', '25006'])(
    'when a function raises SQLSTATE %s, which PostgreSQL uses for lost connections',
    async (code) => {
      await sql(
        test.url,
        `CREATE FUNCTION raise_it() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = '${code}'; END $$`,
      );
      await expect(db.transaction((own) => own.query('SELECT public.raise_it()'))).rejects.toMatchObject({
        code,
      });
      expect(db.state).toEqual({ status: 'up' });
    },
  );
});
