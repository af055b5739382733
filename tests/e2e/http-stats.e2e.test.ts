import { afterAll, beforeAll, expect, test } from 'vitest';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer();
  admin = await server.token('root', 'admin');
});
afterAll(() => server.stop());

const get = (path: string) => server.call('GET', path, { token: admin });

test('statistics count connections, listed users and distinct users, per channel and for the server', async () => {
  expect((await get('/realtime/stats')).body).toEqual({
    total_channels: 0,
    total_subscribers: 0,
    total_presence: 0,
    channels: [],
    connections: { active_connections: 0, connections_per_user: {}, channel_connections: {} },
  });

  await server.call('POST', '/realtime/channels', {
    token: admin,
    body: { name: 'notifications', permissions: { write: ['user'] } },
  });
  const clients = [
    await join(server, 'chat-room-1', 'user123'),
    await join(server, 'chat-room-1', 'user123'),
    await join(server, 'chat-room-1', 'user456'),
    await join(server, 'notifications', 'user123'),
    await join(server, 'notifications', 'user789', { role: 'audience' }),
    await join(server, 'notifications', '__proto__', { query: 'presence=none' }),
  ];

  expect((await get('/realtime/channels/chat-room-1/stats')).body).toEqual({
    channel: 'chat-room-1',
    subscriber_count: 3,
    presence_count: 2,
    connected_users: 2,
    users: ['user123', 'user456'],
  });
  expect((await get('/realtime/channels/notifications/stats')).body).toEqual({
    channel: 'notifications',
    subscriber_count: 3,
    presence_count: 1,
    connected_users: 3,
    users: ['user123', 'user789', '__proto__'],
  });
  const channels = [
    { name: 'notifications', subscriber_count: 3, presence_count: 1 },
    { name: 'chat-room-1', subscriber_count: 3, presence_count: 2 },
  ];
  const stats = await get('/realtime/stats');
  expect(JSON.parse(stats.text)).toEqual({
    total_channels: 2,
    total_subscribers: 6,
    total_presence: 3,
    channels: expect.arrayContaining(channels),
    connections: {
      active_connections: 6,
      connections_per_user: JSON.parse('{"user123":3,"user456":1,"user789":1,"__proto__":1}') as unknown,
      channel_connections: { notifications: 3, 'chat-room-1': 3 },
    },
  });

  await Promise.all(clients.map((client) => client.close()));
});

test('the maps of the statistics contain the 100 largest entries, so that the answer of a busy server stays small', async () => {
  const heavy = [await join(server, 'c-0', 'heavy'), await join(server, 'c-0', 'heavy')];
  const light = await Promise.all(
    Array.from({ length: 101 }, (_, n) => join(server, `c-${n}`, `light-${n}`)),
  );
  const { connections } = JSON.parse((await get('/realtime/stats')).text) as {
    connections: Record<string, Record<string, number>>;
  };
  for (const map of [connections.connections_per_user, connections.channel_connections]) {
    expect(Object.keys(map ?? {})).toHaveLength(100);
  }
  expect(connections.active_connections).toBe(103);
  expect(connections.connections_per_user?.heavy).toBe(2);
  expect(connections.channel_connections?.['c-0']).toBe(3);
  await Promise.all([...heavy, ...light].map((client) => client.close()));
});
