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

async function names(): Promise<string[]> {
  const { body } = await server.call('GET', '/realtime/channels', { token: admin });
  return body.channels.map(({ name }) => name).sort();
}

test('channels made by HTTP are there after a restart, automatic ones are not', async () => {
  await create({ name: 'kept' });
  const client = await join(server, 'automatic', 'ada');
  expect(await names()).toEqual(['automatic', 'kept']);
  await restart();
  expect((await client.closed).code).toBe(1012);
  expect(await names()).toEqual(['kept']);
  expect((await create({ name: 'kept' })).status).toBe(409);
});

test('their limits and lists hold after a restart as before', async () => {
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

test('a deleted channel stays deleted after a restart, whichever kind it was', async () => {
  await create({ name: 'made' });
  const client = await join(server, 'automatic', 'ada');
  for (const name of ['made', 'automatic']) {
    expect((await server.call('DELETE', `/realtime/channels/${name}`, { token: admin })).status).toBe(200);
  }
  await client.closed;
  await restart();
  expect(await names()).toEqual([]);
  for (const name of ['made', 'automatic']) {
    const refused = dial(server, name, { token: admin });
    expect((await refused.next('system', 'error')).payload.code).toBe('CHANNEL_NOT_FOUND');
    expect((await refused.closed).code).toBe(4504);
  }
});

test('one that was created again after its deletion is there after a restart, as it was made last', async () => {
  await create({ name: 'again', permissions: { read: ['spy'] } });
  await server.call('DELETE', '/realtime/channels/again', { token: admin });
  await create({ name: 'again' });
  await restart();
  await (await join(server, 'again', 'ada')).close();
  expect(await names()).toEqual(['again']);
});

test('names and metadata of any kind survive a restart', async () => {
  const odd = ['__proto__', 'constructor', ':'.repeat(100), 'a.b:c-d_e'];
  for (const name of odd) {
    const metadata = '{"text":"\\u0000 \\ud800 \\u00e9","__proto__":{"a":1},"z":1.7976931348623157e308}';
    expect((await create(`{"name":"${name}","metadata":${metadata}}`)).status).toBe(201);
  }
  await restart();
  expect(await names()).toEqual([...odd].sort());
});

test('a restart loses none of many channels that are made and deleted at once', async () => {
  const all = Array.from({ length: 60 }, (_, n) => `many-${String(n).padStart(2, '0')}`);
  await Promise.all(all.map((name) => create({ name })));
  const deleted = all.filter((_, n) => n % 3 === 0);
  await Promise.all(
    deleted.map((name) => server.call('DELETE', `/realtime/channels/${name}`, { token: admin })),
  );
  await restart();
  expect(await names()).toEqual(all.filter((name) => !deleted.includes(name)));
});
