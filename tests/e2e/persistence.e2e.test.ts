import { afterEach, beforeEach, expect, test } from 'vitest';
import { createTestDatabase } from '../support/postgres-database.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let database: { url: string; drop: () => Promise<void> };
let server: TestServer;
let admin: string;
beforeEach(async () => {
  database = await createTestDatabase();
  await start();
});
afterEach(async () => {
  await server.stop();
  await database.drop();
});

async function start(): Promise<void> {
  server = await startTestServer({ DATABASE_URL: database.url });
  admin = await server.token('root', 'admin');
}

async function restart(): Promise<void> {
  await server.stop();
  await start();
}

const create = (body: object | string) => server.call('POST', '/realtime/channels', { token: admin, body });

async function channelNames(): Promise<string[]> {
  const { body } = await server.call('GET', '/realtime/channels', { token: admin });
  return body.channels.map(({ name }) => name).sort();
}

test('a restart keeps channels created over HTTP and drops automatic ones', async () => {
  await create({ name: 'kept' });
  const client = await join(server, 'automatic', 'ada');
  expect(await channelNames()).toEqual(['automatic', 'kept']);
  await restart();
  expect((await client.closed).code).toBe(1012);
  expect(await channelNames()).toEqual(['kept']);
  expect((await create({ name: 'kept' })).status).toBe(409);
});

test('limits and permission lists of a channel survive a restart', async () => {
  await create({
    name: 'guarded',
    max_subscribers: 1,
    require_auth: false,
    permissions: { read: ['spy', 'anonymous'], write: ['spy'], admin: ['spy'], max_message_size: 60 },
  });
  await restart();
  const stranger = await server.token('ada');
  const spy = await server.token('james', 'spy');
  const path = '/realtime/channels/guarded';
  expect((await server.call('GET', path, { token: stranger })).status).toBe(403);
  const large = { event: 'x', payload: 'x'.repeat(60) };
  expect((await server.call('POST', `${path}/broadcast`, { token: spy, body: large })).body).toMatchObject({
    code: 'MESSAGE_TOO_LARGE',
    max_bytes: 60,
  });
  const visitor = dial(server, 'guarded');
  await visitor.next('system', 'connected');
  const second = dial(server, 'guarded', { token: spy });
  expect((await second.next('system', 'error')).payload).toMatchObject({ code: 'CHANNEL_FULL', limit: 1 });
  await Promise.all([visitor.close(), second.closed]);
  expect((await server.call('DELETE', path, { token: spy })).status).toBe(200);
});

test('a deleted channel stays deleted after a restart, whether created over HTTP or automatic', async () => {
  await create({ name: 'made' });
  const client = await join(server, 'automatic', 'ada');
  for (const name of ['made', 'automatic']) {
    expect((await server.call('DELETE', `/realtime/channels/${name}`, { token: admin })).status).toBe(200);
  }
  await client.closed;
  await restart();
  expect(await channelNames()).toEqual([]);
  for (const name of ['made', 'automatic']) {
    const refused = dial(server, name, { token: admin });
    expect((await refused.next('system', 'error')).payload.code).toBe('CHANNEL_NOT_FOUND');
    expect((await refused.closed).code).toBe(4504);
  }
});

test('a channel that was deleted and created again has its last configuration after a restart', async () => {
  await create({ name: 'again', permissions: { read: ['spy'] } });
  await server.call('DELETE', '/realtime/channels/again', { token: admin });
  await create({ name: 'again' });
  await restart();
  await (await join(server, 'again', 'ada')).close();
  expect(await channelNames()).toEqual(['again']);
});

test('unusual names and metadata survive a restart', async () => {
  const odd = ['__proto__', 'constructor', ':'.repeat(100), 'a.b:c-d_e'];
  for (const name of odd) {
    const metadata = '{"text":"\\u0000 \\ud800 \\u00e9","__proto__":{"a":1},"z":1.7976931348623157e308}';
    expect((await create(`{"name":"${name}","metadata":${metadata}}`)).status).toBe(201);
  }
  await restart();
  expect(await channelNames()).toEqual([...odd].sort());
});

test('a restart restores the channels that many concurrent creations and deletions leave', async () => {
  const all = Array.from({ length: 60 }, (_, n) => `many-${String(n).padStart(2, '0')}`);
  await Promise.all(all.map((name) => create({ name })));
  const deleted = all.filter((_, n) => n % 3 === 0);
  await Promise.all(
    deleted.map((name) => server.call('DELETE', `/realtime/channels/${name}`, { token: admin })),
  );
  await restart();
  expect(await channelNames()).toEqual(all.filter((name) => !deleted.includes(name)));
});
