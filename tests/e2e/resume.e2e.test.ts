import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { changeSources } from '../support/matrix.js';
import { createTestDatabase, dropSlot, sql } from '../support/postgres-database.js';
import { ADA, BOB, MESSAGES, subscribe } from '../support/row-changes.js';
import { dial, join, type Received, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let database: { url: string; drop: () => Promise<void> };
let slot: string;
let servers: TestServer[];

beforeEach(async () => {
  database = await createTestDatabase();
  slot = `test_${randomBytes(6).toString('hex')}`;
  servers = [];
});
afterEach(async () => {
  for (const server of servers) await server.stop();
  await dropSlot(database.url, slot);
  await database.drop();
});

async function start(env: Record<string, string> = {}, awaitStream = true): Promise<TestServer> {
  const server = await startRowChangeServer(
    { DATABASE_URL: database.url, REALTIME_REPLICATION_SLOT: slot, ...env },
    { awaitStream },
  );
  servers.push(server);
  return server;
}

const write = (text: string) => sql(database.url, text);
const insert = (from: number, to: number) =>
  write(`INSERT INTO notes SELECT generate_series(${from}, ${to})`);

/** Starts a server whose channel `notes` is subscribed to a table of numbers. */
async function startWithNotes(env: Record<string, string> = {}): Promise<TestServer> {
  const server = await start(env);
  await write('CREATE TABLE notes (id int PRIMARY KEY)');
  await subscribe(server, 'notes', { table: 'notes' });
  return server;
}

/** Joins the channel `notes`. Returns the client and the payload of its `connected`. */
async function connect(
  server: TestServer,
  cursor?: string,
  user = ADA,
): Promise<[TestClient, Received['payload']]> {
  const query = cursor === undefined ? '' : `cursor=${encodeURIComponent(cursor)}`;
  const client = dial(server, 'notes', { token: await server.token(user), query });
  const { payload } = await client.next('system', 'connected');
  return [client, payload];
}

/** Waits until no member is resuming. */
async function awaitResumed(server: TestServer): Promise<void> {
  const token = await server.token('root', 'admin');
  await eventually(async () =>
    expect((await server.call('GET', '/metrics', { token })).text).toMatch(
      /^realtime_change_stream_members_resuming 0$/m,
    ),
  );
}

const ids = (messages: readonly Received[]) => messages.map(({ payload }) => payload.change.new_record?.id);
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

describe('resuming by cursor', () => {
  test('a client receives what it missed and then new changes, each once', async () => {
    const server = await startWithNotes();
    const [first, connected] = await connect(server);
    expect(connected).toMatchObject({ cursor: expect.any(String), recovered: false });
    await insert(1, 3);
    const seen = await first.take(3, 'database_change');
    await first.close();
    await insert(4, 2_000);
    const [second, resumed] = await connect(server, seen[1]?.cursor);
    expect(resumed).toMatchObject({ cursor: seen[1]?.cursor, recovered: true });
    await insert(2_001, 2_003);
    expect(ids(await second.take(2_001, 'database_change'))).toEqual(range(3, 2_003));
    expect(second.all('system', 'gap')).toEqual([]);
  });

  test('a client that has received nothing yet gets everything since it connected', async () => {
    const server = await startWithNotes();
    const [before] = await connect(server);
    await insert(1, 3);
    // These rows are delivered before the next client connects, so they precede its cursor.
    await before.take(3, 'database_change');
    const [first, { cursor }] = await connect(server);
    await first.close();
    await insert(4, 6);
    const [second, { recovered }] = await connect(server, cursor);
    expect(recovered).toBe(true);
    expect(ids(await second.take(3, 'database_change'))).toEqual([4, 5, 6]);
  });

  test('a client receives what it missed across a server restart, with the same cursors and ids', async () => {
    const before = await startWithNotes();
    const [first] = await connect(before);
    await insert(1, 10);
    const seen = await first.take(10, 'database_change');
    await before.stop();
    servers = [];
    await insert(11, 20);
    const server = await start({}, false);
    const [second, { recovered }] = await connect(server, seen[4]?.cursor);
    expect(recovered).toBe(true);
    await insert(21, 22);
    const replayed = await second.take(17, 'database_change');
    expect(ids(replayed)).toEqual(range(6, 22));
    for (const [n, { id, cursor, timestamp }] of replayed.slice(0, 5).entries()) {
      const { id: knownId, cursor: knownCursor, timestamp: knownTime } = seen[n + 5] ?? {};
      expect([id, cursor, timestamp]).toEqual([knownId, knownCursor, knownTime]);
    }
  });

  test('a client without a cursor receives nothing from before a restart', async () => {
    const before = await startWithNotes();
    await insert(1, 10);
    await before.stop();
    servers = [];
    const server = await start();
    const [client] = await connect(server);
    await insert(11, 11);
    expect(ids(await client.take(1, 'database_change'))).toEqual([11]);
  });

  test.each(changeSources('logical', 'trigger'))(
    'a change before the cursor that no subscription matched is not replayed, even after a restart (%s)',
    async (source) => {
      const env = { REALTIME_CHANGE_SOURCE: source };
      const before = await start(env);
      const token = await before.token('root', 'admin');
      await write('CREATE TABLE notes (id int PRIMARY KEY)');
      await before.call('POST', '/realtime/triggers/notes', { token, body: {} });
      await before.call('POST', '/realtime/channels', { token, body: { name: 'notes' } });
      await insert(1, 1);
      await eventually(async () => {
        const { body } = await before.call('GET', '/realtime/stats', { token });
        expect(body).toMatchObject({ database: { changes_read: 1 } });
      });
      const [, { cursor }] = await connect(before);
      await subscribe(before, 'notes', { table: 'notes' });
      await insert(2, 2);
      await before.stop();
      servers = [];
      const server = await start(env, false);
      const [again, { recovered }] = await connect(server, cursor);
      expect(recovered).toBe(true);
      expect(ids(await again.take(1, 'database_change'))).toEqual([2]);
    },
  );

  test('a malformed cursor and a cursor of another change epoch cause a gap', async () => {
    const server = await startWithNotes();
    const [, { cursor }] = await connect(server);
    for (const [wrong, reason] of [
      ['nonsense', 'the cursor is malformed'],
      [`${cursor}9999999999999`, 'the cursor is malformed'],
      [`other${cursor}`, 'the cursor belongs to another change epoch'],
    ] as const) {
      const [client, { recovered }] = await connect(server, wrong);
      expect(recovered).toBe(false);
      expect((await client.next('system', 'gap')).payload).toEqual({ scope: 'changes', reason });
    }
  });

  test('REALTIME_RESUME_WINDOW, REALTIME_RESUME_WINDOW_BYTES: a cursor older than the window causes a gap, except for a table without changes', async () => {
    const server = await startWithNotes({
      REALTIME_RESUME_WINDOW: '1ms',
      REALTIME_RESUME_WINDOW_BYTES: '1KB',
    });
    await write('CREATE TABLE quiet (id int PRIMARY KEY)');
    await subscribe(server, 'quiet', { table: 'quiet' });
    const [client, { cursor = '' }] = await connect(server);
    await insert(1, 1);
    await client.next('database_change');
    await eventually(async () => {
      const [row] = await sql<{ forgotten: number }>(
        database.url,
        `SELECT count(*)::int AS forgotten FROM realtime.streams, jsonb_object_keys(memo) WHERE slot = '${slot}'`,
      );
      expect(row?.forgotten).toBe(1);
    }, 10_000);
    const quiet = await join(server, 'quiet', ADA, { query: `cursor=${encodeURIComponent(cursor)}` });
    expect(quiet.all('system', 'connected')[0]?.payload.recovered).toBe(true);
    const check = async (at: TestServer) => {
      const [late, { recovered }] = await connect(at, cursor);
      expect(recovered).toBe(false);
      expect((await late.next('system', 'gap')).payload.reason).toContain(
        'changes after the cursor are no longer available',
      );
    };
    await check(server);
    // After a restart the server still knows that the cursor is too old.
    await server.stop();
    servers = [];
    await check(await start({ REALTIME_RESUME_WINDOW: '1ms' }, false));
  });

  test('a table that was disabled and enabled in the meantime causes a gap', async () => {
    const server = await startWithNotes();
    const [client, { cursor }] = await connect(server);
    await client.close();
    const token = await server.token('root', 'admin');
    await server.call('DELETE', '/realtime/triggers/notes', { token });
    await insert(1, 1);
    await server.call('POST', '/realtime/triggers/notes', { token, body: {} });
    await eventually(async () => {
      const [late, { recovered }] = await connect(server, cursor);
      await late.close();
      expect(recovered).toBe(false);
    });
    // A client that connects from now on can resume.
    const [newcomer, connected] = await connect(server);
    await newcomer.close();
    await insert(2, 2);
    const [again, { recovered }] = await connect(server, connected.cursor);
    expect(recovered).toBe(true);
    expect(ids(await again.take(1, 'database_change'))).toEqual([2]);
  });

  test('a client receives the rows that row level security shows it when it resumes', async () => {
    const server = await start();
    await write(MESSAGES);
    await subscribe(server, 'notes', { table: 'messages' });
    const [ada, { cursor }] = await connect(server);
    await ada.close();
    await write(
      `INSERT INTO messages (content, user_id) SELECT n, (ARRAY['${ADA}', '${BOB}'])[1 + n % 2]::uuid FROM generate_series(1, 100) n`,
    );
    const [again] = await connect(server, cursor);
    const [bob] = await connect(server, cursor, BOB);
    expect(ids(await again.take(50, 'database_change'))).toEqual(range(1, 50).map((n) => 2 * n));
    expect(ids(await bob.take(50, 'database_change'))).toEqual(range(1, 50).map((n) => 2 * n - 1));
    await write('REVOKE SELECT ON messages FROM realtime_subscriber');
    const [revoked, { recovered }] = await connect(server, cursor);
    expect(recovered).toBe(true);
    await awaitResumed(server);
    await write(
      `GRANT SELECT ON messages TO realtime_subscriber; INSERT INTO messages (content, user_id) VALUES ('now', '${ADA}')`,
    );
    expect((await revoked.next('database_change')).payload.change.new_record?.content).toBe('now');
  });
});

test('a hundred members that leave and resume while rows are written receive every row once and in order', async () => {
  const server = await startWithNotes({ REALTIME_CONNECTION_RATE: '10000/s, burst 10000' });
  let written = 0;
  let isStopping = false;
  const writing = (async () => {
    while (!isStopping) {
      await insert(written + 1, written + 1 + (written % 7));
      written += 1 + (written % 7);
    }
  })();
  const member = async (n: number) => {
    let [client, { cursor }] = await connect(server);
    const [opening] = await client.take(1, 'database_change');
    const seen = ids([opening as Received]);
    cursor = opening?.cursor;
    for (let round = 0; round < 5; round++) {
      for (const message of await client.take(1 + ((n * 7 + round * 3) % 40), 'database_change')) {
        seen.push(...ids([message]));
        cursor = message.cursor;
      }
      await client.close();
      [client] = await connect(server, cursor);
    }
    await client.close();
    const from = seen[0] as number;
    expect(seen).toEqual(range(from, from + seen.length - 1));
  };
  try {
    for (let n = 0; n < 100; n += 20) await Promise.all(range(n, n + 19).map(member));
  } finally {
    isStopping = true;
    await writing;
  }
});
