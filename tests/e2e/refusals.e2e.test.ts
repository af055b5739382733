import { ERRORS, type ErrorCode } from '@goforward/realtime-protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { handshake, type RawConnectOptions, RawSocket } from '../support/raw-socket.js';
import { type ConnectOptions, dial, join, type TestClient } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const FAST = { REALTIME_CONNECTION_RATE: '10000/s, burst 10000', REALTIME_TRUSTED_PROXIES: 'loopback' };
let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer({ ...FAST, REALTIME_MAX_CONNECTIONS_PER_USER: '2' });
  admin = await server.token('root', 'admin');
});
afterAll(() => server.stop());

async function createChannel(name: string, config: object = {}): Promise<void> {
  const answer = await server.call('POST', '/realtime/channels', { token: admin, body: { name, ...config } });
  expect(answer.status).toBe(201);
}

/** The refusal that a client gets: readable, as message and close frame. */
async function readable(client: TestClient): Promise<{ body: object; code: number }> {
  const { payload } = await client.next('system', 'error');
  const { code } = await client.closed;
  expect(client.received).toHaveLength(1);
  return { body: payload, code };
}

/** The refusal that a handshake gets as an HTTP answer. */
async function status(
  at: TestServer,
  channel: string,
  options: RawConnectOptions & { readonly raw?: string } = {},
): Promise<{ status: number; head: string; body: unknown }> {
  const socket = new RawSocket(at);
  socket.write(options.raw ?? handshake(channel, options));
  await socket.gone;
  const [head = '', body = ''] = socket.text.split('\r\n\r\n');
  return { status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]), head, body: JSON.parse(body) };
}

describe('the refusal rule', () => {
  test('the same credential from the same address reads three refusals, then gets the HTTP status with the same JSON', async () => {
    const token = 'no-token-at-all';
    const body = {
      error: 'authentication failed',
      code: 'AUTH_FAILED',
      details: 'Invalid or expired token',
      reason: 'malformed',
    };
    for (let i = 0; i < 3; i++) {
      expect(await readable(dial(server, 'room', { token }))).toEqual({ body, code: 4401 });
    }
    for (let i = 0; i < 2; i++) {
      const answer = await status(server, 'room', { token });
      expect(answer).toMatchObject({ status: 401, body });
      expect(answer.head).toMatch(/content-type: application\/json/i);
    }
  });

  test('it counts over channels and over the ways that a token comes', async () => {
    const token = 'another-bad-one';
    await readable(dial(server, 'a', { token }));
    await readable(dial(server, 'b', { headers: { authorization: `Bearer ${token}` } }));
    await readable(dial(server, 'c', { protocols: ['goforward.v1', `bearer.${token}`] }));
    expect(await status(server, 'd', { token })).toMatchObject({ status: 401 });
  });

  test('another credential and another address start anew', async () => {
    const refused = (token: string, address: string): ConnectOptions => ({
      token,
      headers: { 'x-forwarded-for': address },
    });
    for (let i = 0; i < 3; i++) await readable(dial(server, 'room', refused('bad-1', '203.0.113.1')));
    const { token, headers = {} } = refused('bad-1', '203.0.113.1');
    expect(await status(server, 'room', { token: token ?? '', headers })).toMatchObject({ status: 401 });
    await readable(dial(server, 'room', refused('bad-2', '203.0.113.1')));
    await readable(dial(server, 'room', refused('bad-1', '203.0.113.2')));
  });

  test('who was refused is let in as soon as nothing stands in the way', async () => {
    await createChannel('later', { max_subscribers: 1 });
    const first = await join(server, 'later', 'first');
    const token = await server.token('second');
    for (let i = 0; i < 3; i++) await readable(dial(server, 'later', { token }));
    expect(await status(server, 'later', { token })).toMatchObject({ status: 429 });
    await first.close();
    const second = await join(server, 'later', 'second', { token });
    await second.close();
  });
});

describe('each kind of refusal', () => {
  async function twoConnections(userId: string): Promise<void> {
    await Promise.all([join(server, 'room', userId), join(server, 'room', userId)]);
  }
  const KINDS: [
    ErrorCode,
    string,
    object,
    () => Promise<{ at?: TestServer; channel: string; token?: string }>,
  ][] = [
    [
      'AUTH_FAILED',
      'a token whose claims were changed',
      { details: 'Invalid or expired token', reason: 'signature' },
      async () => ({ channel: 'room', token: await forged() }),
    ],
    [
      'AUTH_FAILED',
      'no token',
      { details: 'A token is needed', reason: 'missing' },
      async () => ({ channel: 'room' }),
    ],
    [
      'PERMISSION_DENIED',
      'a channel that others may read',
      { required_permission: 'read' },
      async () => {
        await createChannel('private', { permissions: { read: ['staff'] } });
        return { channel: 'private', token: await server.token('outsider') };
      },
    ],
    [
      'CHANNEL_NOT_FOUND',
      'a deleted channel',
      { error: 'channel deleted-one not found' },
      async () => {
        await createChannel('deleted-one');
        await server.call('DELETE', '/realtime/channels/deleted-one', { token: admin });
        return { channel: 'deleted-one', token: await server.token('late') };
      },
    ],
    [
      'CHANNEL_NOT_FOUND',
      'a channel that nobody made, where joining makes none',
      { error: 'channel nowhere not found' },
      async () => {
        const at = await strict();
        return { at, channel: 'nowhere', token: await at.token('alice') };
      },
    ],
    [
      'CHANNEL_FULL',
      'a full channel',
      { limit: 1 },
      async () => {
        await createChannel('tiny', { max_subscribers: 1 });
        await join(server, 'tiny', 'first');
        return { channel: 'tiny', token: await server.token('second') };
      },
    ],
    [
      'CHANNEL_LIMIT_REACHED',
      'one channel too many',
      { limit: 1 },
      async () => {
        const at = await cramped();
        await join(at, 'the-only-one', 'alice');
        return { at, channel: 'one-more', token: await at.token('bob') };
      },
    ],
    [
      'CONNECTION_LIMIT_REACHED',
      "one connection of a user's too many",
      { limit: 2, details: 'The user has 2 connections' },
      async () => {
        await twoConnections('greedy');
        return { channel: 'room', token: await server.token('greedy') };
      },
    ],
  ];
  const others: TestServer[] = [];
  const another = async (env: Record<string, string>) => {
    const started = await startTestServer({ ...FAST, ...env });
    others.push(started);
    return started;
  };
  const strict = () => another({ REALTIME_AUTO_CREATE_CHANNELS: 'false' });
  const cramped = () => another({ REALTIME_MAX_CHANNELS: '1' });
  afterAll(() => Promise.all(others.map((other) => other.stop())));

  /** A token of this server that was given another user. */
  async function forged(): Promise<string> {
    const [head, claims, signature] = (await server.token('alice')).split('.');
    const old = JSON.parse(Buffer.from(claims ?? '', 'base64url').toString()) as { sub: string };
    return `${head}.${Buffer.from(JSON.stringify({ ...old, sub: 'root' })).toString('base64url')}.${signature}`;
  }

  test.each(KINDS)(
    '%s for %s: readable with its close code, then its HTTP status',
    async (code, _for, parts, given) => {
      const { at = server, channel, token } = await given();
      const options = token === undefined ? {} : { token };
      // An address of its own for each: what has no token has the same credential as all others without.
      const headers = { 'x-forwarded-for': `198.51.100.${KINDS.findIndex((kind) => kind[1] === _for)}` };
      const expected = { error: ERRORS[code].text, code, ...parts };
      let body: object = {};
      for (let i = 0; i < 3; i++) {
        const refusal = await readable(dial(at, channel, { ...options, headers }));
        expect(refusal).toMatchObject({ body: expected, code: ERRORS[code].close });
        body = refusal.body;
      }
      expect(await status(at, channel, { ...options, headers })).toMatchObject({
        status: ERRORS[code].http,
        body,
      });
    },
  );
});

describe('always an HTTP status', () => {
  const proper = handshake('room', { token: 'bad' });
  const without = (name: string) => proper.replace(new RegExp(`^${name}:.*\r\n`, 'm'), '');
  const IMPROPER: [string, string, number, object][] = [
    ['no key', without('Sec-WebSocket-Key'), 400, { field: 'sec-websocket-key' }],
    [
      'a key that is none',
      proper.replace('dGhlIHNhbXBsZSBub25jZQ==', 'short'),
      400,
      { field: 'sec-websocket-key' },
    ],
    ['no version', without('Sec-WebSocket-Version'), 400, { field: 'sec-websocket-version' }],
    ['version 8', proper.replace('Version: 13', 'Version: 8'), 400, { field: 'sec-websocket-version' }],
    [
      'another protocol, which is none',
      proper
        .replace('Upgrade: websocket', 'Upgrade: h2c')
        .replace('Connection: Upgrade', 'Connection: close'),
      400,
      { field: 'upgrade' },
    ],
    ['HTTP/1.0', proper.replace('HTTP/1.1', 'HTTP/1.0'), 400, { field: 'request' }],
    ['POST', proper.replace('GET', 'POST'), 405, { code: 'METHOD_NOT_ALLOWED' }],
    ['echo=maybe', handshake('room', { query: 'echo=maybe' }), 400, { field: 'echo' }],
    ['presence=all', handshake('room', { query: 'presence=all' }), 400, { field: 'presence' }],
    [
      'a sub-protocol twice',
      protocols('goforward.v1, goforward.v1'),
      400,
      { field: 'sec-websocket-protocol' },
    ],
    ['a sub-protocol with a space', protocols('goforward v1'), 400, { field: 'sec-websocket-protocol' }],
    ['no sub-protocol at all', protocols(''), 400, { field: 'sec-websocket-protocol' }],
    ['a path of no endpoint', proper.replace('/ws?', '/wss?'), 404, { code: 'NOT_FOUND' }],
    ['a name that starts with a dot', handshake('.hidden'), 400, { field: 'name' }],
    ['a name with a slash', handshake('a%2fb'), 400, { field: 'name' }],
    ['a name that is not UTF-8', handshake('%ff'), 404, { code: 'NOT_FOUND' }],
    ['a name of 101 characters', handshake('n'.repeat(101)), 400, { field: 'name' }],
  ];
  function protocols(offered: string): string {
    return handshake('room', { headers: { 'Sec-WebSocket-Protocol': offered } });
  }

  test.each(IMPROPER)('a handshake with %s', async (_what, raw, expected, body) => {
    expect(await status(server, '', { raw })).toMatchObject({ status: expected, body });
  });

  test('a foreign origin', async () => {
    const headers = { Origin: 'https://elsewhere.example' };
    const answer = await status(server, 'room', { token: await server.token('alice'), headers });
    expect(answer).toMatchObject({
      status: 403,
      body: {
        code: 'ORIGIN_NOT_ALLOWED',
        details: 'The origin "https://elsewhere.example" is not in REALTIME_ALLOWED_ORIGINS',
      },
    });
  });

  test('a handshake over the connection rate, with Retry-After', async () => {
    const at = await startTestServer({ REALTIME_CONNECTION_RATE: '0.5/s, burst 2' });
    const token = await at.token('alice');
    for (let i = 0; i < 2; i++) await join(at, 'room', 'alice', { token });
    const answer = await status(at, 'room', { token });
    expect(answer).toMatchObject({
      status: 429,
      body: { error: 'rate limit exceeded', code: 'RATE_LIMIT_EXCEEDED', retry_after: 2 },
    });
    expect(answer.head).toMatch(/^retry-after: 2$/im);
    await at.stop();
  });
});
