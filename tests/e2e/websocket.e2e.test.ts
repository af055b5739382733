import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonFrame } from '../support/client-frame.js';
import { RawWebSocket } from '../support/raw-socket.js';
import { type ConnectOptions, dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const PUBLISHED = ['broadcast', 'message'];
let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({
    REALTIME_MESSAGE_RATE: '10000/s, burst 10000',
    REALTIME_CONNECTION_RATE: '1000/s, burst 1000',
  });
});
afterAll(() => server.stop());

describe('the token', () => {
  const WAYS: Record<string, (token: string) => ConnectOptions> = {
    'the query': (token) => ({ token }),
    Authorization: (token) => ({ headers: { authorization: `Bearer ${token}` } }),
    'a sub-protocol': (token) => ({ protocols: ['goforward.v1', `bearer.${token}`] }),
    'a sub-protocol offered first': (token) => ({ protocols: [`bearer.${token}`, 'goforward.v1'] }),
  };

  test.each(Object.entries(WAYS))('is accepted in %s', async (_way, options) => {
    const client = dial(server, 'room', options(await server.token('alice')));
    expect((await client.next('system', 'connected')).payload.user_id).toBe('alice');
    await client.close();
  });

  test.each([
    [['goforward.v1', 'bearer.TOKEN'], 'goforward.v1'],
    [['bearer.TOKEN', 'goforward.v1'], 'goforward.v1'],
    [[], ''],
  ])('is never selected as sub-protocol: of %j the server selects "%s"', async (offered, selected) => {
    const token = await server.token('alice');
    const client = dial(server, 'room', {
      protocols: offered.map((name) => name.replace('TOKEN', token)),
      ...(offered.length === 0 ? { token } : {}),
    });
    await client.next('system', 'connected');
    expect(client.socket.protocol).toBe(selected);
    await client.close();
  });
});

test('`connected` contains the channel, the user, the counts and the limits', async () => {
  const first = await join(server, 'greeting', 'alice');
  const token = await server.token('bob');
  const before = Date.now();
  const client = dial(server, 'greeting', { token });
  const connected = await client.next('system', 'connected');
  expect(connected).toEqual({
    id: expect.stringMatching(/^msg_\d+_[a-z0-9]{9}$/),
    type: 'system',
    event: 'connected',
    payload: {
      channel: 'greeting',
      connection_id: expect.stringMatching(/^conn_[a-z0-9]{16}$/),
      user_id: 'bob',
      recovered: false,
      subscriber_count: 2,
      presence_count: 2,
      ping_interval_ms: 30_000,
      token_expires_at: expect.stringMatching(/^\d{4}-.*Z$/),
      limits: { max_message_size: 65_536, message_rate: 10_000, presence_state_bytes: 8192 },
    },
    user_id: 'system',
    timestamp: expect.any(String),
  });
  expect(client.received[0]).toBe(connected);
  const expiry = Date.parse(connected.payload.token_expires_at ?? '') - before;
  expect(expiry).toBeGreaterThan(3_590_000);
  expect(expiry).toBeLessThan(3_601_000);
  await Promise.all([first.close(), client.close()]);
});

test('`connected` has no expiry for a token without one', async () => {
  const client = dial(server, 'room', { token: await server.token('eternal', 'user', null) });
  expect((await client.next('system', 'connected')).payload).not.toHaveProperty('token_expires_at');
  await client.close();
});

test("`connected` contains the channel's own limits, but at most those of the server", async () => {
  const admin = await server.token('root', 'admin');
  const limitsOf = async (name: string, permissions: object) => {
    await server.call('POST', '/realtime/channels', { token: admin, body: { name, permissions } });
    const client = dial(server, name, { token: admin });
    const { limits } = (await client.next('system', 'connected')).payload;
    await client.close();
    return limits;
  };
  expect(await limitsOf('narrow', { max_message_size: 1000, rate_limit: 5 })).toMatchObject({
    max_message_size: 1000,
    message_rate: 5,
  });
  expect(await limitsOf('wide', { max_message_size: 10_000_000, rate_limit: 500_000 })).toMatchObject({
    max_message_size: 65_536,
    message_rate: 10_000,
  });
});

describe('publishing', () => {
  test.each(PUBLISHED)(
    'a %s from a client reaches every member, including the sender, as a message',
    async (type) => {
      const [alice, bob] = await Promise.all([join(server, 'chat', 'alice'), join(server, 'chat', 'bob')]);
      const before = Date.now();
      alice.send({ type, event: 'chat', payload: { message: 'hi' } });
      for (const client of [alice, bob]) {
        const message = await client.next('message');
        expect(message).toMatchObject({ event: 'chat', payload: { message: 'hi' }, user_id: 'alice' });
        expect(Date.parse(message.timestamp)).toBeGreaterThanOrEqual(before);
      }
      await Promise.all([alice.close(), bob.close()]);
    },
  );

  test('id, user_id, timestamp and unknown fields from a client are ignored', async () => {
    const alice = await join(server, 'chat', 'alice');
    const forged = {
      id: 'msg_1_forged',
      user_id: 'bob',
      timestamp: '1999-01-01T00:00:00Z',
      channel: 'x',
      y: [1],
    };
    alice.send({ type: 'broadcast', event: 'chat', payload: { n: 1 }, ...forged });
    const message = await alice.next('message');
    expect(message.user_id).toBe('alice');
    expect(message.id).not.toBe(forged.id);
    expect(Date.parse(message.timestamp)).toBeGreaterThan(Date.now() - 60_000);
    expect(Object.keys(message).sort()).toEqual(['event', 'id', 'payload', 'timestamp', 'type', 'user_id']);
    await alice.close();
  });

  test.each([
    ['nothing', undefined, {}],
    ['null', null, null],
    ['a number', 17, 17],
    ['false', false, false],
    ['an empty string', '', ''],
    ['an array', [1, [2], { a: null }], [1, [2], { a: null }]],
    ['unusual characters', '\u0000\u2028\ud83d\ude00\ud800"\\', '\u0000\u2028\ud83d\ude00\ud800"\\'],
    ['a key named __proto__', JSON.parse('{"__proto__":{"a":1}}'), JSON.parse('{"__proto__":{"a":1}}')],
  ])('a payload of %s is delivered', async (_kind, payload: unknown, arrives: unknown) => {
    const alice = await join(server, 'chat', 'alice');
    alice.send({ type: 'message', event: 'any', payload });
    expect(JSON.stringify((await alice.next('message', 'any')).payload)).toBe(JSON.stringify(arrives));
    await alice.close();
  });

  test('with echo=false the sender does not receive its own messages, but others do', async () => {
    const [alice, bob] = await Promise.all([
      join(server, 'quiet', 'alice', { query: 'echo=false' }),
      join(server, 'quiet', 'bob', { query: 'echo=true' }),
    ]);
    alice.send({ type: 'broadcast', event: 'mine', payload: {} });
    await bob.next('message', 'mine');
    bob.send({ type: 'broadcast', event: 'yours', payload: {} });
    await alice.next('message', 'yours');
    await bob.next('message', 'yours');
    expect(alice.all('message').map(({ event }) => event)).toEqual(['yours']);
    await Promise.all([alice.close(), bob.close()]);
  });

  test('every member receives the messages of many publishers in the same order', async () => {
    const publishers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => join(server, 'busy', `user-${i}`, { query: 'presence=none' })),
    );
    for (let n = 0; n < 50; n++) {
      for (const client of publishers) client.send({ type: 'broadcast', event: 'tick', payload: { n } });
    }
    const seen = await Promise.all(publishers.map((client) => client.take(500, 'message', 'tick')));
    const orders = seen.map((messages) => messages.map(({ user_id, payload }) => `${user_id}:${payload.n}`));
    for (const order of orders) expect(order).toEqual(orders[0]);
    for (let i = 0; i < 10; i++) {
      const own = orders[0]?.filter((entry) => entry.startsWith(`user-${i}:`));
      expect(own).toEqual(Array.from({ length: 50 }, (_, n) => `user-${i}:${n}`));
    }
    await Promise.all(publishers.map((client) => client.close()));
  });

  test('messages sent as soon as the handshake is accepted are handled after `connected`, in order', async () => {
    const first = [
      jsonFrame({ type: 'presence', event: 'update', payload: { state: { status: 'early' } } }),
      jsonFrame({ type: 'broadcast', event: 'one', payload: {} }),
      jsonFrame({ type: 'broadcast', event: 'two', payload: {} }),
      jsonFrame({ type: 'ping', event: 'ping' }),
    ];
    const client = await RawWebSocket.open(server, 'early', { token: await server.token('alice') });
    client.write(...first);
    await client.next('pong');
    expect(client.messages.map((message) => `${message.type}/${message.event}`)).toEqual([
      'system/connected',
      'presence/join',
      'presence/update',
      'message/one',
      'message/two',
      'pong/pong',
    ]);
    expect(client.messages[2]).toMatchObject({ payload: { state: { status: 'early' } } });
    client.socket.destroy();
  });
});

describe('ping and replies', () => {
  test('a ping is answered by a pong, or with a ref by the reply alone', async () => {
    const alice = await join(server, 'room', 'alice');
    alice.send({ type: 'ping', event: 'ping', payload: {} });
    expect(await alice.next('pong', 'pong')).toMatchObject({ payload: {}, user_id: 'system' });
    alice.send({ type: 'ping', event: 'ping', ref: 7 });
    expect(await alice.next('reply', 'ok')).toMatchObject({ ref: 7, payload: {} });
    await alice.settle();
    expect(alice.all('pong')).toHaveLength(1);
    await alice.close();
  });

  test.each([0, 1, Number.MAX_SAFE_INTEGER, 'r', 'x'.repeat(64)])('ref %j is returned', async (ref) => {
    const alice = await join(server, 'room', 'alice');
    alice.send({ type: 'message', event: 'with-ref', ref });
    expect(await alice.next('reply', 'ok')).toMatchObject({ ref, payload: {} });
    alice.send({ type: 'nonsense', event: 'x', ref });
    expect(await alice.next('reply', 'error')).toMatchObject({
      ref,
      payload: { code: 'UNKNOWN_MESSAGE_TYPE' },
    });
    await alice.settle();
    expect(alice.all('system', 'error')).toEqual([]);
    await alice.close();
  });

  test('a reply arrives after the message that it confirms', async () => {
    const alice = await join(server, 'room', 'alice', { query: 'presence=none' });
    alice.send({ type: 'message', event: 'confirmed', payload: {}, ref: 'a' });
    await alice.next('reply', 'ok');
    expect(alice.received.slice(-2).map(({ type }) => type)).toEqual(['message', 'reply']);
    await alice.close();
  });
});
