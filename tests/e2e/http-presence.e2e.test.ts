import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer();
  admin = await server.token('root', 'admin');
});
afterAll(() => server.stop());

const path = (channel: string) => `/realtime/channels/${channel}/presence`;
const presenceOf = async (channel: string) =>
  (await server.call('GET', path(channel), { token: admin })).body.presence;

async function update(channel: string, userId: string, state: unknown) {
  return server.call('POST', path(channel), { token: await server.token(userId), body: { state } });
}

async function createChannel(name: string, permissions: object = {}): Promise<void> {
  await server.call('POST', '/realtime/channels', { token: admin, body: { name, permissions } });
}

const STATE = {
  status: 'busy',
  custom_message: 'In a meeting',
  available_until: '2025-01-15T11:00:00Z',
  custom_data: {
    avatar: 'https://example.com/new-avatar.jpg',
    display_name: 'John Doe',
    role: 'moderator',
  },
};
const SEEN = { last_seen: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) };

test("the specification's update is accepted, sent to the members and listed", async () => {
  await createChannel('chat-room-1');
  const watcher = await join(server, 'chat-room-1', 'user456');
  const answer = await update('chat-room-1', 'user123', STATE);
  expect(answer.status).toBe(200);
  expect(answer.body).toEqual({ message: 'presence updated successfully' });
  const joined = await watcher.next('presence', 'join', ({ payload }) => payload.user_id === 'user123');
  expect(joined.payload).toEqual({ user_id: 'user123', state: { ...STATE, ...SEEN } });
  expect((await presenceOf('chat-room-1')).user123).toEqual({ ...STATE, ...SEEN });
  await watcher.close();
});

test('presence lists the present users and, once each, all connected users', async () => {
  await createChannel('mixed', { write: ['user'] });
  const clients = [
    await join(server, 'mixed', 'user123'),
    await join(server, 'mixed', 'user123'),
    await join(server, 'mixed', 'user456'),
    await join(server, 'mixed', 'reads-only', { role: 'audience' }),
    await join(server, 'mixed', 'hidden', { query: 'presence=none' }),
  ];
  await update('mixed', 'without-connection', { status: 'away' });
  const answer = await server.call('GET', path('mixed'), { token: admin });
  expect(answer.status).toBe(200);
  expect(answer.body).toEqual({
    channel: 'mixed',
    presence: {
      user123: { status: 'online', ...SEEN },
      user456: { status: 'online', ...SEEN },
      'without-connection': { status: 'away', ...SEEN },
    },
    connected_users: ['user123', 'user456', 'reads-only', 'hidden'],
    total_users: 4,
  });
  await Promise.all(clients.map((client) => client.close()));
});

test('the presence of an empty channel is empty', async () => {
  await createChannel('nobody-here');
  const { body } = await server.call('GET', path('nobody-here'), { token: admin });
  expect(body).toEqual({ channel: 'nobody-here', presence: {}, connected_users: [], total_users: 0 });
});

test('updates replace top-level keys, null removes a key, and last_seen cannot be set', async () => {
  await createChannel('merged');
  await update('merged', 'ada', { a: 1, deep: { x: 1, y: 1 }, gone: true });
  await update('merged', 'ada', { deep: { z: 1 }, gone: null, last_seen: '1970-01-01T00:00:00Z' });
  expect((await presenceOf('merged')).ada).toEqual({ status: 'online', a: 1, deep: { z: 1 }, ...SEEN });
  const { ada } = await presenceOf('merged');
  expect(Date.now() - Date.parse(ada?.last_seen ?? '')).toBeLessThan(60_000);
  await update('merged', 'ada', { status: null });
  expect((await presenceOf('merged')).ada).toEqual({ a: 1, deep: { z: 1 }, ...SEEN });
});

test('HTTP and the connections of a user share one state, which is listed while the user is connected', async () => {
  await createChannel('shared');
  const client = await join(server, 'shared', 'ada');
  client.send({ type: 'presence', event: 'update', payload: { state: { by: 'socket', only: 1 } } });
  await client.settle();
  await update('shared', 'ada', { by: 'http' });
  expect((await presenceOf('shared')).ada).toEqual({ status: 'online', by: 'http', only: 1, ...SEEN });
  await client.close();
  await eventually(async () => expect(await presenceOf('shared')).toEqual({}));
});

test.each(['__proto__', 'constructor', 'hasOwnProperty', 'a/b~c', '\u00e9\u{1f600}'])(
  'a user ID and a key of its state may be %s',
  async (name) => {
    const channel = `names-${Buffer.from(name).toString('hex')}`;
    await createChannel(channel);
    const answer = await server.call('POST', path(channel), {
      token: await server.token(name),
      body: `{"state":{${JSON.stringify(name)}:{"polluted":1}}}`,
    });
    expect(answer.status).toBe(200);
    const text = (await server.call('GET', path(channel), { token: admin })).text;
    const key = JSON.stringify(name);
    expect(text).toContain(`"presence":{${key}:{"status":"online",${key}:{"polluted":1},"last_seen":`);
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  },
);

test('a state over 8 kB is refused, and the previous state stays', async () => {
  await createChannel('large');
  expect((await update('large', 'ada', { text: 'x'.repeat(8000) })).status).toBe(200);
  const refused = await update('large', 'ada', { more: 'y'.repeat(300) });
  expect(refused.status).toBe(413);
  expect(refused.body).toEqual({
    error: 'message too large',
    code: 'MESSAGE_TOO_LARGE',
    details: 'The presence state is too large',
    max_bytes: 8192,
  });
  expect(Object.keys((await presenceOf('large')).ada ?? {}).sort()).toEqual(['last_seen', 'status', 'text']);
});

test("a channel's max_message_size applies to presence updates too", async () => {
  await createChannel('tight', { max_message_size: 30 });
  expect((await update('tight', 'ada', { a: 1 })).status).toBe(200);
  expect((await update('tight', 'ada', { a: 'x'.repeat(30) })).body).toMatchObject({
    code: 'MESSAGE_TOO_LARGE',
    max_bytes: 30,
  });
});
