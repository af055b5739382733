import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { createTestDatabase } from '../support/postgres-database.js';
import { PostgresProxy } from '../support/postgres-proxy.js';
import { dial, join } from '../support/test-client.js';
import { type Answer, startTestServer, type TestServer } from '../support/test-server.js';

let database: { url: string; drop: () => Promise<void> };
let proxy: PostgresProxy;
let server: TestServer;
let admin: string;
beforeEach(async () => {
  database = await createTestDatabase();
  proxy = new PostgresProxy(database.url);
  await proxy.open();
});
afterEach(async () => {
  await server.stop();
  await proxy.close();
  await database.drop();
});

/** Starts a server that retries its database connection at least every 100 ms. */
async function start(): Promise<void> {
  server = await startTestServer({ DATABASE_URL: proxy.url, REALTIME_MAX_RECONNECT_DELAY: '100ms' });
  admin = await server.token('root', 'admin');
}

const create = (name: string) => server.call('POST', '/realtime/channels', { token: admin, body: { name } });
const remove = (name: string) => server.call('DELETE', `/realtime/channels/${name}`, { token: admin });

const databaseState = async () => (await server.call('GET', '/readyz')).body.parts.database;

function expectUnavailable({ status, headers, body }: Answer): void {
  expect(status).toBe(503);
  expect(body).toEqual({
    error: 'database unavailable',
    code: 'DATABASE_UNAVAILABLE',
    retry_after: expect.toSatisfy((seconds: number) => Number.isInteger(seconds) && seconds >= 1),
  });
  expect(headers.get('retry-after')).toBe(String(body.retry_after));
}

test('during a database outage, messages are delivered, and requests that need the database get 503', async () => {
  await start();
  await create('lasting');
  const ada = await join(server, 'lasting', 'ada');
  expect(await databaseState()).toEqual({ status: 'up' });

  await proxy.close();
  await eventually(async () => {
    expect(await databaseState()).toEqual({
      status: 'down',
      reason: expect.stringContaining(proxy.address),
    });
  });
  expect((await server.call('GET', '/readyz')).status).toBe(200);

  const bob = await join(server, 'lasting', 'bob');
  bob.send({ type: 'broadcast', event: 'chat', payload: 'still here' });
  expect((await ada.next('message', 'chat')).payload).toBe('still here');
  const cleo = await join(server, 'automatic', 'cleo');
  const posted = { token: admin, body: { event: 'x' } };
  expect((await server.call('POST', '/realtime/channels/lasting/broadcast', posted)).status).toBe(200);
  expect((await server.call('GET', '/realtime/channels/lasting', { token: admin })).status).toBe(200);

  expectUnavailable(await create('refused'));
  expectUnavailable(await remove('lasting'));
  expectUnavailable(await remove('automatic'));
  await ada.settle();

  await proxy.open();
  await eventually(async () => expect(await databaseState()).toEqual({ status: 'up' }));
  expect((await create('refused')).status).toBe(201);
  expect((await remove('lasting')).status).toBe(200);
  expect((await ada.closed).code).toBe(4510);
  await Promise.all([bob.closed, cleo.close()]);
});

test('a failed creation or deletion changes nothing, and a later one succeeds', async () => {
  await start();
  await create('stays');
  await proxy.close();
  await eventually(async () => expect((await databaseState())?.status).toBe('down'));
  expectUnavailable(await create('never'));
  expectUnavailable(await remove('stays'));
  await (await join(server, 'stays', 'ada')).close();
  await (await join(server, 'never', 'ada')).close();
  await proxy.open();
  await eventually(async () => expect((await databaseState())?.status).toBe('up'));
  expect((await remove('stays')).status).toBe(200);
  expect((await remove('stays')).status).toBe(404);
});

test('a server that starts without its database is not ready, says why, and becomes ready with the database', async () => {
  await start();
  await create('kept');
  await server.stop();
  await proxy.close();
  await start();

  const { status, body } = await server.call('GET', '/readyz');
  expect(status).toBe(503);
  expect(body).toEqual({
    status: 'not ready',
    parts: {
      server: { status: 'running' },
      channels: { status: 'loading' },
      database: { status: 'down', reason: expect.stringContaining(proxy.address) },
    },
  });
  expect((await server.call('GET', '/healthz')).status).toBe(200);
  expect((await server.call('GET', '/realtime/channels')).status).toBe(401);
  expectUnavailable(await create('too-early'));
  expectUnavailable(await server.call('GET', '/realtime/channels', { token: admin }));
  expectUnavailable(await server.call('GET', '/realtime/stats', { token: admin }));
  expectUnavailable(await server.call('GET', '/realtime/channels/kept', { token: admin }));
  expect((await server.call('GET', '/metrics', { token: admin })).text).toContain('realtime_database_up 0');

  const early = dial(server, 'kept', { token: admin });
  const answered = new Promise<number>((resolve) => {
    early.socket.once('unexpected-response', (request, response) => {
      request.destroy();
      resolve(response.statusCode ?? 0);
    });
  });
  expect(await answered).toBe(503);

  await proxy.open();
  await eventually(async () => expect((await server.call('GET', '/readyz')).status).toBe(200));
  expect((await create('kept')).status).toBe(409);
  await (await join(server, 'kept', 'ada')).close();
  expect((await server.call('GET', '/metrics', { token: admin })).text).toContain('realtime_database_up 1');
});

test('REALTIME_MAX_RECONNECT_DELAY limits the delay between connection attempts', async () => {
  let attempts = 0;
  const hangingUp = createServer((socket) => {
    attempts += 1;
    socket.destroy();
  });
  await once(hangingUp.listen(0, '127.0.0.1'), 'listening');
  const { port } = hangingUp.address() as AddressInfo;
  server = await startTestServer({
    DATABASE_URL: `postgres://nobody@127.0.0.1:${port}/none`,
    REALTIME_MAX_RECONNECT_DELAY: '100ms',
  });
  // With the default delay, twelve attempts take three minutes on average.
  await eventually(() => expect(attempts).toBeGreaterThan(12), 10_000);
  hangingUp.close();
});
