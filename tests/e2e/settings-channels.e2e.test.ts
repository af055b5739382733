import { afterEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
afterEach(() => server.stop());

async function start(env: Readonly<Record<string, string>>): Promise<void> {
  server = await startTestServer(env);
  admin = await server.token('root', 'admin');
}

const create = (name: string) => server.call('POST', '/realtime/channels', { token: admin, body: { name } });

async function channelNames(): Promise<string[]> {
  const { body } = await server.call('GET', '/realtime/channels', { token: admin });
  return body.channels.map(({ name }) => name).sort();
}

/** Joins and leaves, so that an empty automatic channel remains. */
async function visit(channel: string): Promise<void> {
  const client = await join(server, channel, 'visitor');
  await client.close();
  await eventually(async () => {
    const { body } = await server.call('GET', `/realtime/channels/${channel}`, { token: admin });
    expect(body.subscriber_count).toBe(0);
  });
}

test('REALTIME_MAX_CHANNELS: at the limit the automatic channel that has been empty longest is removed', async () => {
  await start({ REALTIME_MAX_CHANNELS: '4' });
  expect((await create('lasting')).status).toBe(201);
  const inUse = await join(server, 'in-use', 'member');
  await visit('empty-longest');
  await visit('empty-later');
  expect((await create('new-by-http')).status).toBe(201);
  expect(await channelNames()).toEqual(['empty-later', 'in-use', 'lasting', 'new-by-http']);
  const newcomer = await join(server, 'new-by-joining', 'member');
  expect(await channelNames()).toEqual(['in-use', 'lasting', 'new-by-http', 'new-by-joining']);

  const refused = await create('one-too-many');
  expect(refused.status).toBe(429);
  expect(refused.body).toEqual({
    error: 'channel limit reached',
    code: 'CHANNEL_LIMIT_REACHED',
    limit: 4,
  });
  const late = dial(server, 'another', { token: admin });
  expect((await late.next('system', 'error')).payload).toMatchObject({
    code: 'CHANNEL_LIMIT_REACHED',
    limit: 4,
  });
  expect((await late.closed).code).toBe(4430);

  await server.call('DELETE', '/realtime/channels/lasting', { token: admin });
  expect((await create('now-there-is-room')).status).toBe(201);
  await Promise.all([inUse.close(), newcomer.close()]);
});

test('REALTIME_MAX_USERS_PER_CHANNEL is the default of max_subscribers', async () => {
  await start({ REALTIME_MAX_USERS_PER_CHANNEL: '2' });
  await create('by-http');
  for (const channel of ['by-http', 'by-joining']) {
    const members = [await join(server, channel, 'a'), await join(server, channel, 'a')];
    const third = dial(server, channel, { token: admin });
    expect((await third.next('system', 'error')).payload).toMatchObject({ code: 'CHANNEL_FULL', limit: 2 });
    expect((await third.closed).code).toBe(4430);
    await Promise.all(members.map((member) => member.close()));
  }
});

test('REALTIME_CHANNEL_TTL and REALTIME_CLEANUP_INTERVAL: unused automatic channels are removed, all others stay', async () => {
  await start({ REALTIME_CHANNEL_TTL: '300ms', REALTIME_CLEANUP_INTERVAL: '50ms' });
  await create('lasting');
  const member = await join(server, 'in-use', 'member');
  await visit('empty');
  await eventually(async () => expect(await channelNames()).toEqual(['in-use', 'lasting']));
  await member.close();
  await eventually(async () => expect(await channelNames()).toEqual(['lasting']));
  expect((await server.call('GET', '/realtime/channels/empty', { token: admin })).status).toBe(404);
});

test('REALTIME_CLEANUP_INTERVAL: an expired channel stays until the next clean-up', async () => {
  await start({ REALTIME_CHANNEL_TTL: '1ms', REALTIME_CLEANUP_INTERVAL: '1h' });
  await visit('expired');
  await visit('another');
  expect(await channelNames()).toEqual(['another', 'expired']);
});

test('REALTIME_AUTO_CREATE_CHANNELS=false: only channels created over HTTP can be joined', async () => {
  await start({ REALTIME_AUTO_CREATE_CHANNELS: 'false' });
  const refused = dial(server, 'nowhere', { token: admin });
  expect((await refused.next('system', 'error')).payload).toEqual({
    error: 'channel nowhere not found',
    code: 'CHANNEL_NOT_FOUND',
  });
  expect((await refused.closed).code).toBe(4504);
  const { body } = await server.call('GET', '/realtime/channels/nowhere', { token: admin });
  expect(body.details).toBe('channel nowhere not found: create it with POST /realtime/channels');
  await create('made');
  await (await join(server, 'made', 'ada')).close();
  expect(await channelNames()).toEqual(['made']);
});

test('REALTIME_ENABLE_PRESENCE=false: lists are empty, no presence is sent, updates are refused, and chat works', async () => {
  await start({ REALTIME_ENABLE_PRESENCE: 'false' });
  const disabled = { error: 'feature disabled', code: 'FEATURE_DISABLED', feature: 'presence' };
  const first = await join(server, 'room', 'ada');
  const second = await join(server, 'room', 'bob', { query: 'presence=diff' });
  for (const event of ['update', 'leave']) {
    first.send({ type: 'presence', event, payload: { state: {} }, ref: event });
    expect((await first.next('reply')).payload).toEqual(disabled);
  }
  const posted = await server.call('POST', '/realtime/channels/room/presence', {
    token: admin,
    body: { state: {} },
  });
  expect([posted.status, posted.body]).toEqual([403, disabled]);
  const { body } = await server.call('GET', '/realtime/channels/room/presence', { token: admin });
  expect(body).toEqual({
    channel: 'room',
    presence: {},
    connected_users: ['ada', 'bob'],
    total_users: 2,
  });
  first.send({ type: 'broadcast', event: 'chat', payload: 'hello' });
  expect((await second.next('message', 'chat')).payload).toBe('hello');
  await first.close();
  await second.settle();
  expect(second.all('presence')).toEqual([]);
  expect(second.received[0]?.payload).toMatchObject({ presence_count: 0, presence: {} });
  await second.close();
});

test('REALTIME_ENABLE_BROADCAST=false: publishing is refused over WebSocket and HTTP, and presence works', async () => {
  await start({ REALTIME_ENABLE_BROADCAST: 'false' });
  const disabled = { error: 'feature disabled', code: 'FEATURE_DISABLED', feature: 'broadcast' };
  const client = await join(server, 'room', 'ada');
  for (const type of ['broadcast', 'message']) {
    client.send({ type, event: 'chat', ref: type });
    expect((await client.next('reply')).payload).toEqual(disabled);
  }
  const posted = await server.call('POST', '/realtime/channels/room/broadcast', {
    token: admin,
    body: { event: 'chat' },
  });
  expect([posted.status, posted.body]).toEqual([403, disabled]);
  client.send({ type: 'presence', event: 'update', payload: { state: { busy: true } } });
  expect((await client.next('presence', 'update')).payload.state).toMatchObject({ busy: true });
  expect(client.all('message')).toEqual([]);
  await client.close();
});
