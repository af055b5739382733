import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { run } from '../support/row-changes.js';
import { join, type Received, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const ROWS = 9_800;
/** About 16 MB of JSON, which the buffers of the kernel (about 10 MB over loopback) do not take. */
const LARGE = `
  CREATE TABLE large (id int PRIMARY KEY, body text);
  INSERT INTO large SELECT n, repeat('é', 820) FROM generate_series(1, ${ROWS}) n;
  CREATE TABLE small (id int PRIMARY KEY);
  INSERT INTO small VALUES (1);`;

let server: TestServer;
let dataDir: string;
beforeAll(async () => {
  dataDir = mkdtempSync(joinPath(tmpdir(), 'goforward-test-'));
  // Left by a server that was killed.
  mkdirSync(joinPath(dataDir, 'snapshots'));
  writeFileSync(joinPath(dataDir, 'snapshots', 'left'), 'rows');
  server = await startRowChangeServer({
    REALTIME_DATA_DIR: dataDir,
    REALTIME_DB_ROLES: 'test_snapshots',
    REALTIME_CONNECTION_TIMEOUT: '10m',
  });
  await run(
    server,
    `DO $$ BEGIN CREATE ROLE test_snapshots NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; ${LARGE}`,
  );
  const token = await server.token('root', 'admin');
  for (const table of ['large', 'small'])
    expect((await server.call('POST', `/realtime/triggers/${table}`, { token, body: {} })).status).toBe(200);
  await run(server, 'REVOKE SELECT ON large FROM test_snapshots');
});
afterAll(async () => {
  await server.stop();
  rmSync(dataDir, { recursive: true });
});

let refs = 0;

async function ask(client: TestClient, type: string, event: string, payload: object): Promise<Received> {
  const ref = `r${refs++}`;
  client.send({ type, event, payload, ref });
  return client.next('reply', undefined, (message) => message.ref === ref);
}

function subscribe(client: TestClient, table: string): Promise<Received> {
  return ask(client, 'subscribe', 'database_changes', { table, snapshot: true });
}

/** Subscribes with a snapshot of 16 MB, and reads no further than the reply. */
async function subscribeUnread(user: string): Promise<{ client: TestClient; id: string }> {
  const client = await join(server, 'lobby', user);
  const { event, payload } = await subscribe(client, 'large');
  client.socket.pause();
  expect(event).toBe('ok');
  return { client, id: payload.subscription_id ?? '' };
}

async function metric(name: string): Promise<number> {
  const { text } = await server.call('GET', '/metrics', { token: await server.token('root', 'admin') });
  return Number(new RegExp(`^realtime_${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

function filesAre(count: number): Promise<void> {
  return eventually(async () => expect(await metric('snapshot_files')).toBe(count));
}

/** The ids of the rows of all pages of a snapshot so far. */
function idsOf(client: TestClient, id: string): unknown[] {
  const pages = client.all('system', 'snapshot').filter(({ payload }) => payload.subscription_id === id);
  return pages.flatMap(({ payload }) => payload.rows.map((row) => row.id));
}

test('the file of a snapshot that a crash has left is deleted at start', async () => {
  await eventually(() => expect(readdirSync(joinPath(dataDir, 'snapshots'))).toEqual([]));
});

test('a snapshot waits in a file while its member does not read it; rows come first, then every change since', async () => {
  const { client, id } = await subscribeUnread('ada');
  await filesAre(1);
  expect(await metric('snapshot_file_bytes')).toBeGreaterThan(15_000_000);
  await run(server, 'INSERT INTO large VALUES (100001); INSERT INTO large VALUES (100002)');
  // Nothing of the transaction is left, and others are served.
  const bob = await join(server, 'lobby', 'bob');
  expect((await subscribe(bob, 'small')).event).toBe('ok');
  await bob.next('system', 'snapshot');
  client.socket.resume();
  for (const expected of [100_001, 100_002])
    expect((await client.next('database_change')).payload.change.new_record?.id).toBe(expected);
  expect(idsOf(client, id)).toEqual(Array.from({ length: ROWS }, (_, n) => n + 1));
  expect(client.all('system', 'snapshot').filter(({ payload }) => !payload.more)).toHaveLength(1);
  expect(client.all('system', 'snapshot').at(-1)?.payload.rows.at(-1)?.body).toBe('é'.repeat(820));
  await filesAre(0);
  await run(server, 'DELETE FROM large WHERE id > 100000');
  await Promise.all([client.close(), bob.close()]);
});

test('the file of a member that is cut is freed, and the next snapshot of a member waits for the one before', async () => {
  const { client } = await subscribeUnread('ada');
  client.send({ type: 'subscribe', event: 'database_changes', payload: { table: 'large', snapshot: true } });
  await filesAre(1);
  client.socket.terminate();
  await filesAre(0);
});

test('no more pages are sent to a member whose subscription ends, and its changes go on', async () => {
  const { client, id } = await subscribeUnread('ada');
  client.send({ type: 'unsubscribe', event: 'database_changes', payload: { id }, ref: 'end' });
  client.socket.resume();
  await client.next('reply', undefined, ({ ref }) => ref === 'end');
  expect((await subscribe(client, 'small')).event).toBe('ok');
  await run(server, 'INSERT INTO small VALUES (2); DELETE FROM small WHERE id = 2');
  expect((await client.next('database_change')).payload.change.new_record).toEqual({ id: 2 });
  expect(idsOf(client, id).length).toBeLessThan(ROWS);
  await filesAre(0);
  await client.close();
});

test('no more pages are sent to a member whose new role may not read the table', async () => {
  const { client, id } = await subscribeUnread('ada');
  const token = await server.token('ada', 'test_snapshots');
  client.send({ type: 'auth', event: 'refresh', payload: { token }, ref: 'refresh' });
  client.socket.resume();
  expect((await client.next('system', 'error')).payload).toMatchObject({
    code: 'DB_SUBSCRIPTION_FAILED',
    subscription_id: id,
  });
  await filesAre(0);
  expect(idsOf(client, id).length).toBeLessThan(ROWS);
  await client.close();
});

test('four snapshots of a user wait to be read; the next waits for its turn, and not in the way of another user', async () => {
  const unread = await Promise.all(Array.from({ length: 3 }, () => subscribeUnread('eve')));
  await filesAre(3);
  const next = await Promise.all([join(server, 'lobby', 'eve'), join(server, 'lobby', 'eve')]);
  const answered = next.map((client) => subscribe(client, 'small'));
  await Promise.race(answered);
  // Each of them is one page: read at once, and returned at once.
  expect((await Promise.all(answered)).map(({ event }) => event)).toEqual(['ok', 'ok']);
  const fourth = await subscribeUnread('eve');
  await filesAre(4);
  const fifth = next[0] ?? fourth.client;
  fifth.send({
    type: 'subscribe',
    event: 'database_changes',
    ref: 'fifth',
    payload: { table: 'small', snapshot: true },
  });
  await eventually(async () => expect(await metric('snapshots_waiting')).toBe(1));
  const bob = await join(server, 'lobby', 'bob');
  expect((await subscribe(bob, 'large')).event).toBe('ok');
  await bob.next('system', 'snapshot', ({ payload }) => !payload.more);
  unread[0]?.client.socket.terminate();
  expect((await fifth.next('reply', undefined, ({ ref }) => ref === 'fifth')).event).toBe('ok');
  for (const { client } of [...unread, fourth]) client.socket.terminate();
  await filesAre(0);
  await Promise.all([...next, bob].map((client) => client.close()));
});
