import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { createTestDatabase, dropSlot, sql } from '../support/postgres-database.js';
import { PostgresProxy } from '../support/postgres-proxy.js';
import { ADA, nextChange, run, subscribe, takeChanges } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
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

const readiness = async (server: TestServer) => (await server.call('GET', '/readyz')).body.parts.row_changes;
const write = (text: string) => sql(database.url, text);

test('when PostgreSQL goes away, members are notified, sockets and chat stay, and no change is lost', async () => {
  const proxy = new PostgresProxy(database.url);
  await proxy.open();
  try {
    const server = await start({ DATABASE_URL: proxy.url, REALTIME_MAX_RECONNECT_DELAY: '200ms' });
    await write('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(server, 'notes', { table: 'notes' });
    const ada = await join(server, 'notes', ADA);
    await write('INSERT INTO notes VALUES (1)');
    expect((await nextChange(ada)).new_record).toEqual({ id: 1 });

    await proxy.close();
    expect((await ada.next('system', 'database_down')).payload.reason).toEqual(expect.any(String));
    ada.send({ type: 'broadcast', event: 'chat', payload: { n: 1 } });
    await ada.next('message', 'chat');
    const late = await join(server, 'notes', ADA);
    await late.next('system', 'database_down');
    await write('INSERT INTO notes VALUES (2); DELETE FROM notes WHERE id = 1');

    await proxy.open();
    await ada.next('system', 'database_up');
    await late.next('system', 'database_up');
    for (const client of [ada, late]) {
      const changes = await takeChanges(client, 2);
      expect(
        changes.map(({ event, new_record, old_record }) => [event, (new_record ?? old_record)?.id]),
      ).toEqual([
        ['INSERT', 2],
        ['DELETE', 1],
      ]);
    }
  } finally {
    for (const server of servers.splice(0)) await server.stop();
    await proxy.close();
  }
});

test('a stream that is cut within a transaction resumes, loses no change and repeats none', async () => {
  const server = await start({ REALTIME_MAX_RECONNECT_DELAY: '100ms' });
  await write('CREATE TABLE notes (id int PRIMARY KEY)');
  await subscribe(server, 'notes', { table: 'notes' });
  const ada = await join(server, 'notes', ADA);
  for (let n = 0; n < 5; n++) {
    await write(`INSERT INTO notes SELECT ${n} * 10000 + i FROM generate_series(0, 9999) i`);
    await write(
      `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '${slot}' AND active_pid IS NOT NULL`,
    );
  }
  const changes = await takeChanges(ada, 50_000);
  expect(changes.map(({ new_record }) => new_record?.id)).toEqual(
    Array.from({ length: 50_000 }, (_, n) => n),
  );
  await ada.settle();
  expect(ada.all('database_change')).toHaveLength(50_000);
});

test('a second server on the slot waits as a follower and takes over', async () => {
  const first = await start();
  await write('CREATE TABLE notes (id int PRIMARY KEY)');
  await subscribe(first, 'notes', { table: 'notes' });
  const second = await start({}, false);
  await eventually(async () => expect(await readiness(second)).toEqual({ status: 'follower' }));
  const ada = await join(second, 'notes', ADA);
  expect((await ada.next('system', 'database_down')).payload.reason).toBe('follower');
  await servers.shift()?.stop();
  await ada.next('system', 'database_up');
  await write('INSERT INTO notes VALUES (1)');
  expect((await nextChange(ada)).new_record).toEqual({ id: 1 });
});

test('a slot that was dropped is recreated, and a gap is sent before the next change', async () => {
  const server = await start({ REALTIME_MAX_RECONNECT_DELAY: '100ms' });
  await write('CREATE TABLE notes (id int PRIMARY KEY)');
  await subscribe(server, 'notes', { table: 'notes' });
  const ada = await join(server, 'notes', ADA);
  await write('INSERT INTO notes VALUES (1)');
  const before = await ada.next('database_change');
  await eventually(() =>
    write(
      `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '${slot}' AND active_pid IS NOT NULL;
       SELECT pg_drop_replication_slot('${slot}')`,
    ),
  );
  expect((await ada.next('system', 'gap')).payload).toEqual({
    scope: 'changes',
    reason: 'the replication slot was lost',
  });
  await eventually(async () => expect(await readiness(server)).toEqual({ status: 'streaming' }));
  await write('INSERT INTO notes VALUES (2)');
  const after = await ada.next('database_change');
  expect(after.payload.change.new_record).toEqual({ id: 2 });
  expect(after.cursor?.split(':')[0]).not.toBe(before.cursor?.split(':')[0]);
});

test('REALTIME_HEARTBEAT_INTERVAL: a slot whose tables are idle advances while other tables are written', async () => {
  const server = await start({ REALTIME_HEARTBEAT_INTERVAL: '100ms', REALTIME_RESUME_WINDOW: '1ms' });
  await write('CREATE TABLE unpublished (n int, filler text)');
  await write(`INSERT INTO unpublished SELECT n, repeat('x', 1000) FROM generate_series(1, 1000) n`);
  const [position] = await sql<{ position: string }>(
    database.url,
    'SELECT pg_current_wal_insert_lsn() AS position',
  );
  await eventually(async () => {
    const [row] = await sql<{ moved: boolean }>(
      database.url,
      `SELECT confirmed_flush_lsn >= '${position?.position}' AS moved FROM pg_replication_slots WHERE slot_name = '${slot}'`,
    );
    expect(row?.moved).toBe(true);
  }, 10_000);
  const { text } = await server.call('GET', '/metrics', { token: await server.token('root', 'admin') });
  expect(text).toMatch(/^realtime_change_stream_up 1$/m);
});

test('GET /realtime/stats reports the state of the stream', async () => {
  const server = await start();
  await write('CREATE TABLE notes (id int PRIMARY KEY)');
  await subscribe(server, 'notes', { table: 'notes' });
  const ada = await join(server, 'notes', ADA);
  await write('INSERT INTO notes VALUES (1)');
  await nextChange(ada);
  const { body } = await server.call('GET', '/realtime/stats', {
    token: await server.token('root', 'admin'),
  });
  expect(body).toMatchObject({
    database: {
      source: 'logical',
      status: 'streaming',
      tables: 1,
      subscriptions: 1,
      changes_read: 1,
      changes_delivered: 1,
      errors: 0,
    },
  });
});

test('concurrent transactions arrive complete, each without rows of another in between', async () => {
  const server = await start();
  await write('CREATE TABLE notes (id int PRIMARY KEY)');
  await subscribe(server, 'notes', { table: 'notes' });
  const ada = await join(server, 'notes', ADA);
  await Promise.all(
    Array.from({ length: 20 }, (_, n) =>
      run(server, `INSERT INTO notes SELECT ${n} * 100 + i FROM generate_series(0, 99) i`),
    ),
  );
  const changes = await takeChanges(ada, 2_000);
  const ids = changes.map(({ new_record }) => Number(new_record?.id));
  expect(new Set(ids).size).toBe(2_000);
  for (let at = 0; at < 2_000; at += 100) {
    expect(ids.slice(at, at + 100)).toEqual(Array.from({ length: 100 }, (_, n) => (ids[at] ?? 0) + n));
  }
});
