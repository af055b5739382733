import { ERRORS, type ErrorCode, mayReconnect } from '@goforward/realtime-protocol';
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

/** Returns a readable refusal: its error message and close code. */
async function readable(client: TestClient): Promise<{ body: object; code: number }> {
  const { payload } = await client.next('system', 'error');
  const { code } = await client.closed;
  expect(client.received).toHaveLength(1);
  return { body: payload, code };
}

/** Returns the HTTP answer to a handshake that is refused. */
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

describe('repeated refusals', () => {
  test('the same credential from the same address gets three readable refusals, then an HTTP status with the same JSON', async () => {
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

  test('refusals are counted across channels and ways to send a token', async () => {
    const token = 'another-bad-one';
    await readable(dial(server, 'a', { token }));
    await readable(dial(server, 'b', { headers: { authorization: `Bearer ${token}` } }));
    await readable(dial(server, 'c', { protocols: ['goforward.v1', `bearer.${token}`] }));
    expect(await status(server, 'd', { token })).toMatchObject({ status: 401 });
  });

  test('another credential or address has a count of its own', async () => {
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

  test('a refused client is admitted as soon as the reason is gone', async () => {
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

describe('a refusal', () => {
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
      { details: 'A token of a user is needed', reason: 'missing' },
      async () => ({ channel: 'room' }),
    ],
    [
      'PERMISSION_DENIED',
      'a channel that only other roles may read',
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
      'a channel that does not exist, without automatic channels',
      { error: 'channel nowhere not found' },
      async () => {
        const at = await withoutAutoCreate();
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
        const at = await withOneChannel();
        await join(at, 'the-only-one', 'alice');
        return { at, channel: 'one-more', token: await at.token('bob') };
      },
    ],
    [
      'CONNECTION_LIMIT_REACHED',
      'one connection too many for a user',
      { limit: 2, details: 'The user has 2 connections' },
      async () => {
        await twoConnections('greedy');
        return { channel: 'room', token: await server.token('greedy') };
      },
    ],
  ];
  const otherServers: TestServer[] = [];
  const startOther = async (env: Record<string, string>) => {
    const started = await startTestServer({ ...FAST, ...env });
    otherServers.push(started);
    return started;
  };
  const withoutAutoCreate = () => startOther({ REALTIME_AUTO_CREATE_CHANNELS: 'false' });
  const withOneChannel = () => startOther({ REALTIME_MAX_CHANNELS: '1' });
  afterAll(() => Promise.all(otherServers.map((other) => other.stop())));

  /** Returns a token of this server with the user changed. */
  async function forged(): Promise<string> {
    const [head, claims, signature] = (await server.token('alice')).split('.');
    const old = JSON.parse(Buffer.from(claims ?? '', 'base64url').toString()) as { sub: string };
    return `${head}.${Buffer.from(JSON.stringify({ ...old, sub: 'root' })).toString('base64url')}.${signature}`;
  }

  test.each(KINDS)(
    'with %s for %s is readable with its close code, then an HTTP status',
    async (code, situation, parts, prepare) => {
      const { at = server, channel, token } = await prepare();
      const options = token === undefined ? {} : { token };
      // Each kind has its own address, because all clients without a token have the same credential.
      const headers = { 'x-forwarded-for': `198.51.100.${KINDS.findIndex((kind) => kind[1] === situation)}` };
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

describe('a proper handshake that asks for what is invalid', () => {
  const INVALID: [string, string, string, string][] = [
    ['a name that starts with a dot', 'name', '.hidden', ''],
    ['a name with a slash', 'name', 'a%2fb', ''],
    ['a name that is not UTF-8', 'name', '%ff', ''],
    ['a name that is not percent-encoded', 'name', '%zz', ''],
    ['a name of 101 characters', 'name', 'n'.repeat(101), ''],
    ['an empty name', 'name', '', ''],
    ['echo=maybe', 'echo', 'room', 'echo=maybe'],
    ['presence=all', 'presence', 'room', 'presence=all'],
  ];

  test.each(INVALID)(
    'with %s is refused readably with 4500, which forbids a retry, then with an HTTP status',
    async (what, field, channel, query) => {
      const token = await server.token('careless');
      const headers = { 'x-forwarded-for': `192.0.2.${INVALID.findIndex(([name]) => name === what)}` };
      const expected = { error: 'validation failed', code: 'VALIDATION_FAILED', field };
      let body: object = {};
      for (let i = 0; i < 3; i++) {
        const refusal = await readable(dial(server, channel, { token, query, headers }));
        expect(refusal).toMatchObject({ body: expected, code: 4500 });
        expect(mayReconnect(refusal.code)).toBe(false);
        body = refusal.body;
      }
      expect(await status(server, channel, { token, query, headers })).toMatchObject({ status: 400, body });
    },
  );
});

test.each([
  ['?token=', { query: 'token=' }],
  ['the sub-protocol bearer.', { protocols: ['goforward.v1', 'bearer.'] }],
])('an empty token in %s counts as none beside a header with one', async (_where, options) => {
  const authorization = `Bearer ${await server.token('alice')}`;
  const client = dial(server, 'room', { ...options, headers: { authorization } });
  expect((await client.next('system', 'connected')).payload.user_id).toBe('alice');
  await client.close();
});

describe('refusals that are always an HTTP status', () => {
  const valid = handshake('room', { token: 'bad' });
  const without = (name: string) => valid.replace(new RegExp(`^${name}:.*\r\n`, 'm'), '');
  const MALFORMED: [string, string, number, object][] = [
    ['no key', without('Sec-WebSocket-Key'), 400, { field: 'sec-websocket-key' }],
    [
      'an invalid key',
      valid.replace('dGhlIHNhbXBsZSBub25jZQ==', 'short'),
      400,
      { field: 'sec-websocket-key' },
    ],
    ['no version', without('Sec-WebSocket-Version'), 400, { field: 'sec-websocket-version' }],
    ['version 8', valid.replace('Version: 13', 'Version: 8'), 400, { field: 'sec-websocket-version' }],
    [
      'an upgrade to another protocol',
      valid.replace('Upgrade: websocket', 'Upgrade: h2c').replace('Connection: Upgrade', 'Connection: close'),
      400,
      { field: 'upgrade' },
    ],
    ['HTTP/1.0', valid.replace('HTTP/1.1', 'HTTP/1.0'), 400, { field: 'request' }],
    ['POST', valid.replace('GET', 'POST'), 405, { code: 'METHOD_NOT_ALLOWED' }],
    [
      'a sub-protocol twice',
      protocols('goforward.v1, goforward.v1'),
      400,
      { field: 'sec-websocket-protocol' },
    ],
    ['a sub-protocol with a space', protocols('goforward v1'), 400, { field: 'sec-websocket-protocol' }],
    ['no sub-protocol at all', protocols(''), 400, { field: 'sec-websocket-protocol' }],
    ['a path without an endpoint', valid.replace('/ws?', '/wss?'), 404, { code: 'NOT_FOUND' }],
    ['no Host', without('Host'), 400, { field: 'host' }],
    [
      'a body',
      valid
        .replace('Connection: Upgrade', 'Connection: Upgrade, close')
        .replace('\r\n\r\n', '\r\nContent-Length: 2\r\n\r\n{}'),
      400,
      { field: 'upgrade' },
    ],
  ];
  function protocols(offered: string): string {
    return handshake('room', { headers: { 'Sec-WebSocket-Protocol': offered } });
  }

  test.each(MALFORMED)('a handshake with %s is refused', async (_flaw, raw, expected, body) => {
    expect(await status(server, '', { raw })).toMatchObject({ status: expected, body });
  });

  test('a foreign origin is refused', async () => {
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

  test('a handshake over the connection rate is refused with Retry-After', async () => {
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
