import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { collectingLog } from '../support/postgres-log-lines.js';
import { run } from '../support/row-changes.js';
import { join, type Received, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
/** Holds the lock on `locked`, so that statements on this table wait. */
let holder: pg.Client;
let log: ReturnType<typeof collectingLog>;

beforeEach(async () => {
  log = collectingLog();
  server = await startRowChangeServer({ REALTIME_MESSAGE_RATE: '1000/s, burst 1000' }, { log });
  await run(server, 'CREATE TABLE locked (id int PRIMARY KEY); CREATE TABLE free (id int PRIMARY KEY)');
  const token = await server.token('root', 'admin');
  for (const table of ['locked', 'free'])
    expect((await server.call('POST', `/realtime/triggers/${table}`, { token, body: {} })).status).toBe(200);
  // Facts about the tables are known before one is locked.
  const client = await join(server, 'lobby', 'warm');
  for (const table of ['locked', 'free'])
    expect((await answer(client, subscribe(client, { table }))).event).toBe('ok');
  await client.close();
  holder = new pg.Client({ connectionString: server.databaseUrl });
  await holder.connect();
  await holder.query('BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE');
});

afterEach(async () => {
  await holder.end();
  await server.stop();
  // Neither a refusal nor a client that has gone is an error of the server.
  expect(log.lines.filter(({ level }) => level === 'error')).toEqual([]);
});

let refs = 0;

/** Sends a request and returns its `ref`. */
function send(client: TestClient, type: string, event: string, payload: object): string {
  const ref = `r${refs++}`;
  client.send({ type, event, payload, ref });
  return ref;
}

function subscribe(client: TestClient, payload: object): string {
  return send(client, 'subscribe', 'database_changes', payload);
}

function answer(client: TestClient, ref: string): Promise<Received> {
  return eventually(() => {
    const found = client.all('reply').find((message) => message.ref === ref);
    if (found === undefined) throw new Error(`no reply to ${ref}`);
    return found;
  }, 20_000);
}

/** Statements of the server that wait for the lock. */
function waiting(): Promise<object[]> {
  return run(
    server,
    `SELECT query FROM pg_stat_activity WHERE application_name LIKE 'goforward-realtime%'
     AND datname = current_database() AND wait_event_type = 'Lock'`,
  );
}

const LOCKED = { table: 'locked', snapshot: true };

test('16 requests of a connection wait for PostgreSQL; the next is refused at once, and other messages are answered', async () => {
  const client = await join(server, 'lobby', 'ada');
  const asked = Array.from({ length: 17 }, () => subscribe(client, LOCKED));
  const refused = await answer(client, asked[16] ?? '');
  expect([refused.event, refused.payload]).toEqual([
    'error',
    expect.objectContaining({ code: 'RATE_LIMIT_EXCEEDED', retry_after: 1 }),
  ]);
  await client.settle();
  expect(client.all('reply', 'error')).toHaveLength(1);
  await holder.query('COMMIT');
  for (const ref of asked.slice(0, 16)) expect((await answer(client, ref)).event).toBe('ok');
  expect((await answer(client, subscribe(client, { table: 'free' }))).event).toBe('ok');
});

test('requests that wait may have 256 kB of a connection', async () => {
  const client = await join(server, 'lobby', 'ada');
  const large = (ref: string) =>
    `{"type":"subscribe","event":"database_changes","ref":"${ref}",${' '.repeat(60_000)}"payload":${JSON.stringify(LOCKED)}}`;
  for (const ref of ['a', 'b', 'c', 'd', 'e']) client.send(large(ref));
  expect((await answer(client, 'e')).payload.code).toBe('RATE_LIMIT_EXCEEDED');
  await client.settle();
  expect(client.all('reply', 'error')).toHaveLength(1);
});

test('64 requests of a user wait over all its connections; other users are answered meanwhile', async () => {
  const flooders = await Promise.all(Array.from({ length: 5 }, () => join(server, 'lobby', 'eve')));
  for (const client of flooders) for (let n = 0; n < 16; n++) subscribe(client, LOCKED);
  await Promise.all(flooders.map((client) => client.settle()));
  await eventually(async () => expect(await waiting()).toHaveLength(1));
  const refused = flooders.flatMap((client) => client.all('reply', 'error'));
  expect(refused.map(({ payload }) => payload.code)).toEqual(
    Array.from({ length: 16 }, () => 'RATE_LIMIT_EXCEEDED'),
  );
  const since = performance.now();
  const victim = await join(server, 'lobby', 'ada');
  expect((await answer(victim, subscribe(victim, { table: 'free', condition: 'id > 1' }))).event).toBe('ok');
  expect((await answer(victim, subscribe(victim, { table: 'free', snapshot: true }))).event).toBe('ok');
  expect(performance.now() - since).toBeLessThan(2_000);
});

test('what a connection asked for is dropped when it is cut, and its statement is cancelled', async () => {
  const flooders = await Promise.all(Array.from({ length: 4 }, () => join(server, 'lobby', 'eve')));
  for (const client of flooders) for (let n = 0; n < 16; n++) subscribe(client, LOCKED);
  await eventually(async () => expect(await waiting()).toHaveLength(1));
  for (const client of flooders) client.socket.terminate();
  await eventually(async () => expect(await waiting()).toEqual([]), 2_000);
  // Nothing is left that would wait for the lock next, or count for the user.
  const again = await join(server, 'lobby', 'eve');
  for (let n = 0; n < 16; n++)
    expect((await answer(again, subscribe(again, { table: 'free', snapshot: true }))).event).toBe('ok');
  expect(await waiting()).toEqual([]);
  expect((await server.call('GET', '/readyz')).status).toBe(200);
});

test('a condition whose check waits is cancelled when the connection is cut', async () => {
  const client = await join(server, 'lobby', 'eve');
  // A backend that has not seen the row type yet has to lock the table for it.
  await eventually(async () => {
    subscribe(client, { table: 'locked', condition: `id = ${refs}` });
    await eventually(async () => expect(JSON.stringify(await waiting())).toContain('EXPLAIN'), 500);
  }, 10_000);
  client.socket.terminate();
  await eventually(async () => expect(await waiting()).toEqual([]), 900);
});

/** HTTP requests that make statements wait for the lock: path, body, and a part of the statement. */
const HTTP_REQUESTS = [
  ['/realtime/channels/lobby2/subscribe', () => ({ condition: `id = ${refs++}` }), 'EXPLAIN'],
  ['/realtime/explain', () => ({ user: { sub: 'ada' }, key: { id: 1 } }), 'AS record'],
  [
    '/realtime/explain',
    () => ({ user: { sub: 'ada' }, row: { id: 1 }, condition: `id = ${refs++}` }),
    'EXPLAIN',
  ],
] as const;

test('the statement of an HTTP request is cancelled when its client goes', async () => {
  const token = await server.token('root', 'admin');
  await server.call('POST', '/realtime/channels', { token, body: { name: 'lobby2' } });
  for (const [path, body, statement] of HTTP_REQUESTS) {
    const gone = new AbortController();
    const ask = () =>
      fetch(`${server.url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ table: 'locked', ...body() }),
        signal: gone.signal,
      }).catch(() => undefined);
    await eventually(async () => {
      void ask();
      await eventually(async () => expect(JSON.stringify(await waiting())).toContain(statement), 500);
    }, 10_000);
    gone.abort();
    await eventually(async () => expect(await waiting()).toEqual([]), 900);
  }
});

test('64 HTTP requests of a user wait for PostgreSQL; more get 429, and those whose client has gone are dropped', async () => {
  const token = await server.token('root', 'admin');
  await server.call('POST', '/realtime/channels', { token, body: { name: 'lobby2' } });
  const gone = new AbortController();
  const ask = (signal: AbortSignal) =>
    fetch(`${server.url}/realtime/triggers/locked`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${token}` },
      signal,
    });
  const statuses: number[] = [];
  const all = Array.from({ length: 70 }, () =>
    ask(gone.signal).then(
      (response) => {
        statuses.push(response.status);
        return response.headers.get('retry-after');
      },
      () => 'gone',
    ),
  );
  await eventually(() => expect(statuses.filter((status) => status === 429)).toHaveLength(6));
  gone.abort();
  const answers = await Promise.all(all);
  expect(answers.filter((retryAfter) => retryAfter === '1')).toHaveLength(6);
  await holder.query('COMMIT');
  await eventually(async () => {
    const path = '/realtime/channels/lobby2/subscribe';
    expect((await server.call('POST', path, { token, body: { table: 'free' } })).status).toBe(200);
  }, 20_000);
});

test('token refreshes are limited to one per second with a burst of 10 on a connection', async () => {
  const client = await join(server, 'lobby', 'ada');
  const payload = { token: await server.token('ada') };
  const asked = Array.from({ length: 12 }, () => send(client, 'auth', 'refresh', payload));
  const answers = await Promise.all(asked.map((ref) => answer(client, ref)));
  expect(answers.slice(0, 10).map(({ event }) => event)).toEqual(Array.from({ length: 10 }, () => 'ok'));
  expect(answers[11]?.payload).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', retry_after: 1 });
  const other = await join(server, 'lobby', 'ada');
  expect((await answer(other, send(other, 'auth', 'refresh', payload))).event).toBe('ok');
});
