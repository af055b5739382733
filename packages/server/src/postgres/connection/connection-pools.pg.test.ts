import { setMaxListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectedDatabase } from '../../../../../tests/support/connected-database.js';
import { eventually } from '../../../../../tests/support/eventually.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { silentLog } from '../../lib/log.js';
import { Database } from './database.js';
import { POOL_NAMES, POOLS, type PoolName } from './pool-sizes.js';
import type { SqlSession } from './sql-session.js';

const DROPPED = new Error('nobody waits for this');
const SLEEP = 'SELECT pg_sleep(60)';

let test: TestDatabase;
let db: Database;
/** Aborts to end the statements that keep pools busy. */
let busy: AbortController;

beforeEach(async () => {
  test = await createTestDatabase();
  db = await connectedDatabase(test.url);
  busy = new AbortController();
  setMaxListeners(0, busy.signal);
});

afterEach(async () => {
  busy.abort(DROPPED);
  await db.stop();
  await test.drop();
});

/** The server's connections to the database of this test. */
function connections(): Promise<{ pid: number; query: string; application_name: string }[]> {
  return sql(
    test.url,
    `SELECT pid, query, application_name FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'goforward-realtime%'`,
  );
}

function useOf(name: PoolName) {
  return new Map(db.poolUses()).get(name);
}

/** Makes `count` callers start a statement that does not end. */
function keepBusy(name: PoolName, count: number = POOLS[name].connections): Promise<unknown>[] {
  const all = Array.from({ length: count }, () => db.pool(name).query(SLEEP, [], { signal: busy.signal }));
  for (const each of all) each.catch(() => undefined);
  return all;
}

describe('a pool', () => {
  it.each(POOL_NAMES)(
    '%s has its number of connections, and the others go on when all of them are in use',
    async (name) => {
      void keepBusy(name, POOLS[name].connections + 1);
      await eventually(async () => {
        const sleeping = (await connections()).filter(({ query }) => query === SLEEP);
        expect(sleeping).toHaveLength(POOLS[name].connections);
      });
      expect(useOf(name)).toEqual({ inUse: POOLS[name].connections, abandoned: 0 });
      for (const other of POOL_NAMES.filter((each) => each !== name))
        expect(await db.pool(other).query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      expect(db.state).toEqual({ status: 'up' });
    },
  );

  it('lets a number of callers wait, and refuses the next one at once', async () => {
    const { connections: size, waiting } = POOLS.evaluation;
    const asked = keepBusy('evaluation', size + waiting);
    const pool = db.pool('evaluation');
    for (const refused of [
      pool.query(SLEEP),
      pool.transaction((own) => own.query(SLEEP)),
      pool.openSession('x'),
    ])
      await expect(refused).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE', body: { retry_after: 1 } });
    busy.abort(DROPPED);
    for (const each of asked) await expect(each).rejects.toBe(DROPPED);
    await eventually(async () => expect(await pool.query('SELECT 1 AS one')).toEqual([{ one: 1 }]));
  });

  it('refuses its callers when PostgreSQL has no connection for it, and the database stays up', async () => {
    const login = `login_${test.name}`;
    await sql(
      test.url,
      `CREATE ROLE ${login} LOGIN PASSWORD 'p' CONNECTION LIMIT 2; GRANT CREATE ON DATABASE ${test.name} TO ${login}`,
    );
    const url = Object.assign(new URL(test.url), { username: login, password: 'p' }).href;
    const limited = new Database({
      url,
      log: silentLog,
      maxReconnectDelayMs: 100,
      onReady: async () => undefined,
    });
    try {
      await limited.start();
      const own = await Promise.all([1, 2].map(() => limited.openSession('own')));
      await expect(limited.pool('conditions').query('SELECT 1')).rejects.toMatchObject({
        code: 'DATABASE_UNAVAILABLE',
      });
      expect(limited.state).toEqual({ status: 'up' });
      for (const session of own) expect(await session.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      own[0]?.close();
      await eventually(async () =>
        expect(await limited.pool('conditions').query('SELECT 1 AS one')).toEqual([{ one: 1 }]),
      );
    } finally {
      await limited.stop();
      await sql(test.url, `DROP OWNED BY ${login}; DROP ROLE ${login}`);
    }
  });
});

it('callers that wait for a connection are refused at once when the database stops', async () => {
  void keepBusy('replays');
  const waiting = db.pool('replays').openSession('evaluate');
  const refused = expect(waiting).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
  const stopped = db.stop();
  await refused;
  busy.abort(DROPPED);
  await stopped;
});

describe('a session', () => {
  it('takes one of the connections of its pool until it is closed', async () => {
    const pool = db.pool('evaluation');
    const sessions: SqlSession[] = [];
    for (let n = 0; n < POOLS.evaluation.connections; n++) sessions.push(await pool.openSession('evaluate'));
    const names = (await connections()).map(({ application_name }) => application_name);
    expect(names.filter((name) => name === 'goforward-realtime evaluate')).toHaveLength(sessions.length);
    expect(useOf('evaluation')).toEqual({ inUse: sessions.length, abandoned: 0 });
    const gone = new AbortController();
    const left = expect(pool.openSession('evaluate', { signal: gone.signal })).rejects.toBe(DROPPED);
    const waiting = pool.openSession('evaluate');
    gone.abort(DROPPED);
    await left;
    sessions[0]?.close();
    const next = await waiting;
    expect(await next.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    sessions[1]?.close();
    next.close();
    await eventually(() => expect(useOf('evaluation')).toEqual({ inUse: 0, abandoned: 0 }));
  });

  it('gives its connection back when PostgreSQL ends it, without taking the database for lost', async () => {
    const session = await db.pool('replays').openSession('evaluate');
    const [row] = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await sql(test.url, `SELECT pg_terminate_backend(${row?.pid})`);
    await eventually(() => expect([session.isLost, useOf('replays')?.inUse]).toEqual([true, 0]));
    await expect(session.query('SELECT 1')).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    expect(db.state).toEqual({ status: 'up' });
  });

  it('cancels a statement that takes longer than its limit, and is then lost', async () => {
    const session = await db.pool('evaluation').openSession('evaluate');
    const statement = session.query('SELECT pg_sleep(60) AS slow', [], { limitMs: 100 });
    await expect(statement).rejects.toMatchObject({ name: 'StatementTimeout', code: '57014' });
    expect(session.isLost).toBe(true);
    session.close();
    await eventually(() => expect(useOf('evaluation')).toEqual({ inUse: 0, abandoned: 0 }));
    expect((await connections()).filter(({ query }) => query.includes('slow'))).toEqual([]);
  });

  it('that is closed in the middle of a statement cancels it', async () => {
    const session = await db.pool('evaluation').openSession('evaluate');
    const statement = session.query('SELECT pg_sleep(60) AS closed');
    const refused = expect(statement).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
    const running = async () => (await connections()).filter(({ query }) => query.includes('closed'));
    await eventually(async () => expect(await running()).toHaveLength(1));
    session.close();
    await refused;
    await eventually(async () => expect(await running()).toEqual([]), 2_000);
    expect(db.state).toEqual({ status: 'up' });
  });
});
