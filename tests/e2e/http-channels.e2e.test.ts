import { afterAll, beforeAll, expect, test } from 'vitest';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
let user: string;
beforeAll(async () => {
  server = await startTestServer({ REALTIME_MAX_USERS_PER_CHANNEL: '77' });
  admin = await server.token('root', 'admin');
  user = await server.token('user123');
});
afterAll(() => server.stop());

const CHANNELS = '/realtime/channels';
const create = (body: unknown) => server.call('POST', CHANNELS, { token: admin, body });

const CONFIG = {
  max_subscribers: 1000,
  require_auth: true,
  permissions: { read: ['user', 'admin'], write: ['user', 'admin'], admin: ['admin'] },
  metadata: { description: 'General chat room', category: 'public', created_by: 'admin' },
};

test("the specification's channel is created and returned with its configuration", async () => {
  const answer = await create({ name: 'chat-room-1', ...CONFIG });
  expect(answer.status).toBe(201);
  expect(answer.body).toEqual({ name: 'chat-room-1', subscriber_count: 0, config: CONFIG });
});

test('a channel with nothing but a name gets the defaults', async () => {
  const answer = await create({ name: 'plain' });
  const config = { max_subscribers: 77, require_auth: true, permissions: {}, metadata: {} };
  expect(answer.body).toEqual({ name: 'plain', subscriber_count: 0, config });
});

test('creating a channel that exists is a conflict, whether HTTP or a client created it', async () => {
  await create({ name: 'twice' });
  const client = await join(server, 'by-joining', 'someone');
  for (const name of ['twice', 'by-joining']) {
    const answer = await create({ name });
    expect(answer.status).toBe(409);
    expect(answer.body).toEqual({ error: `channel ${name} already exists`, code: 'CHANNEL_EXISTS' });
  }
  await client.close();
});

test('exactly one of ten concurrent requests to create the same channel succeeds', async () => {
  const answers = await Promise.all(Array.from({ length: 10 }, () => create({ name: 'race' })));
  const statuses = answers.map(({ status }) => status);
  expect(statuses.filter((status) => status === 201)).toHaveLength(1);
  expect(statuses.filter((status) => status === 409)).toHaveLength(9);
});

test('a channel is returned with its number of connections and its presence', async () => {
  await create({ name: 'shown' });
  const first = await join(server, 'shown', 'user123');
  const second = await join(server, 'shown', 'user123');
  first.send({ type: 'presence', event: 'update', payload: { state: { custom_data: { avatar: 'a' } } } });
  await first.settle();
  const answer = await server.call('GET', `${CHANNELS}/shown`, { token: user });
  expect(answer.status).toBe(200);
  expect(answer.body).toEqual({
    name: 'shown',
    subscriber_count: 2,
    presence: {
      user123: { status: 'online', custom_data: { avatar: 'a' }, last_seen: expect.stringMatching(/Z$/) },
    },
  });
  await Promise.all([first.close(), second.close()]);
});

test('the list contains the channels that the user may read, created by HTTP or by joining, with their counts', async () => {
  await create({ name: 'secret', permissions: { read: ['spy'] } });
  await create({ name: 'nobody', permissions: { read: [] } });
  await create({ name: 'everyone' });
  const client = await join(server, 'automatic', 'user123');
  const names = async (token: string) => {
    const { body } = await server.call('GET', CHANNELS, { token });
    expect(body.total).toBe(body.channels.length);
    return body.channels.map(({ name }) => name);
  };
  const seen = await names(user);
  expect(seen).toEqual(expect.arrayContaining(['everyone', 'automatic']));
  expect(seen).not.toContain('secret');
  expect(await names(await server.token('james', 'spy'))).toContain('secret');
  expect(await names(admin)).toEqual(expect.arrayContaining(['secret', 'nobody', 'everyone', 'automatic']));
  const { body } = await server.call('GET', CHANNELS, { token: user });
  expect(body.channels).toContainEqual({ name: 'automatic', subscriber_count: 1, presence_count: 1 });
  expect(body.channels).toContainEqual({ name: 'everyone', subscriber_count: 0, presence_count: 0 });
  await client.close();
});

test('deleting a channel closes its members with the reason, and neither HTTP nor a join finds it afterwards', async () => {
  await create({ name: 'doomed' });
  const member = await join(server, 'doomed', 'user123');
  const answer = await server.call('DELETE', `${CHANNELS}/doomed`, { token: admin });
  expect(answer.status).toBe(200);
  expect(answer.body).toEqual({ message: 'channel deleted successfully' });
  expect((await member.next('system', 'channel_closed')).payload).toEqual({ reason: 'channel deleted' });
  expect((await member.closed).code).toBe(4510);
  expect((await server.call('GET', `${CHANNELS}/doomed`, { token: user })).status).toBe(404);
  expect((await server.call('DELETE', `${CHANNELS}/doomed`, { token: admin })).status).toBe(404);
  const late = dial(server, 'doomed', { token: user });
  expect((await late.next('system', 'error')).payload.code).toBe('CHANNEL_NOT_FOUND');
  expect((await late.closed).code).toBe(4504);
});

test('a channel that is deleted and recreated has its new permissions and no members', async () => {
  await create({ name: 'phoenix', permissions: { read: ['spy'] } });
  await server.call('DELETE', `${CHANNELS}/phoenix`, { token: admin });
  expect((await create({ name: 'phoenix', max_subscribers: 3 })).body).toMatchObject({
    subscriber_count: 0,
    config: { max_subscribers: 3, permissions: {} },
  });
  const member = await join(server, 'phoenix', 'user123');
  await member.close();
});

const ALLOWED_CHARACTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:';

test.each([
  ['one letter', 'a'],
  ['every allowed character', ALLOWED_CHARACTERS],
  ['100 characters', 'n'.repeat(100)],
  ['100 characters that a URL escapes', ':'.repeat(100)],
  ['a leading dash', '-dash'],
  ['a dot inside', 'a.b..c.'],
  ['the name of a property of Object', 'constructor'],
  ['the name of the prototype', '__proto__'],
])('a channel name is accepted: %s', async (_what, name) => {
  expect((await create({ name })).body).toMatchObject({ name });
  for (const path of [name, encodeURIComponent(name)]) {
    const shown = await server.call('GET', `${CHANNELS}/${path}`, { token: user });
    expect(shown.body).toEqual({ name, subscriber_count: 0, presence: {} });
  }
  expect((await server.call('DELETE', `${CHANNELS}/${name}`, { token: admin })).status).toBe(200);
});

test.each([
  ['empty', ''],
  ['101 characters', 'n'.repeat(101)],
  ['a leading dot', '.hidden'],
  ['a space', 'a b'],
  ['a letter beyond ASCII', 'caf\u00e9'],
  ['a slash', 'a/b'],
  ['a line break at its end', 'a\n'],
  ['a NUL', 'a\u0000'],
  ['a percent sign', 'a%41'],
])('a channel name is refused: %s', async (_what, name) => {
  const created = await create({ name });
  expect(created.status).toBe(400);
  expect(created.body).toMatchObject({ code: 'VALIDATION_FAILED', field: 'name' });
  if (name === '') return;
  const shown = await server.call('GET', `${CHANNELS}/${encodeURIComponent(name)}`, { token: user });
  expect(shown.status).toBe(400);
  expect(shown.body).toMatchObject({ code: 'VALIDATION_FAILED', field: 'name' });
});

test.each([
  ['a NUL', '{"text":"\\u0000"}'],
  ['a NUL in a key', '{"\\u0000":1}'],
  ['a lone surrogate', '{"text":"\\ud800","more":"\\udfff x"}'],
  ['the key __proto__', '{"__proto__":{"max_subscribers":1},"a":{"__proto__":null}}'],
  ['keys in any order', '{"z":1,"a":2,"m":{"b":1,"a":2}}'],
  [
    'numbers of any form',
    '{"max":1.7976931348623157e308,"beyond":1E400,"big":1152921506151679042,"zero":-0.0}',
  ],
  ['an empty key', '{"":""}'],
])('metadata may contain %s and is returned unchanged', async (what, metadata) => {
  const name = `meta-${what.replaceAll(/\W+/g, '-')}`;
  const answer = await create(`{"name":"${name}","metadata":${metadata}}`);
  expect(answer.status).toBe(201);
  expect(answer.text).toContain(`"metadata":${metadata}`);
});
