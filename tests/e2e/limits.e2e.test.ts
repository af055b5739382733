import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RawSocket } from '../support/raw-socket.js';
import { dial, join, type TestClient } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

/** How long a client may take to send the head of a request (http/app.ts), and how often Node checks it. */
const HEAD_TIMEOUT_MS = 10_000;
const CHECK_INTERVAL_MS = 1_000;

let server: TestServer;
let slow: Map<string, Promise<SlowHandshake>>;
beforeAll(async () => {
  server = await startTestServer();
  // They take ten seconds: they start before all other tests, and the last test checks them.
  slow = new Map(Object.entries(SLOW).map(([how, begin]) => [how, timedHandshake(begin)]));
});
afterAll(() => server.stop());

interface SlowHandshake {
  readonly durationMs: number;
  readonly text: string;
}

test('clients without a token share the rate of their address', async () => {
  const admin = await server.token('root', 'admin');
  const body = { name: 'open', require_auth: false, permissions: { rate_limit: 2 } };
  await server.call('POST', '/realtime/channels', { token: admin, body });
  const clients = [dial(server, 'open'), dial(server, 'open')];
  for (const client of clients) await client.next('system', 'connected');
  for (const client of clients) {
    for (const ref of [1, 2]) client.send({ type: 'message', event: 'hi', payload: {}, ref });
    await client.next('reply', undefined, (message) => message.ref === 2);
  }
  const answers = clients.map((client) =>
    client.received.filter(({ type }) => type === 'reply').map(({ event }) => event),
  );
  expect(answers).toEqual([
    ['ok', 'ok'],
    ['error', 'error'],
  ]);
  await Promise.all(clients.map((client) => client.close()));
});

const SLOW: Record<string, (socket: RawSocket) => void> = {
  'sends nothing': () => undefined,
  'sends half a header': (socket) => socket.write('GET /realtime/channels/room/ws HTTP/1.1\r\nHost: x\r\n'),
  'sends one byte a second': (socket) => {
    const bytes = 'GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: yes\r\n'.split('');
    const send = () => socket.write(bytes.shift() ?? 'x');
    const timer = setInterval(send, 1_000);
    send();
    void socket.gone.then(() => clearInterval(timer));
  },
};

async function timedHandshake(begin: (socket: RawSocket) => void): Promise<SlowHandshake> {
  const started = performance.now();
  const socket = new RawSocket(server);
  begin(socket);
  await socket.gone;
  return { durationMs: performance.now() - started, text: socket.text };
}

async function withServer(
  env: Record<string, string>,
  use: (at: TestServer) => Promise<void>,
): Promise<void> {
  const at = await startTestServer({ REALTIME_TRUSTED_PROXIES: 'loopback', ...env });
  try {
    await use(at);
  } finally {
    await at.stop();
  }
}

const from = (address: string) => ({ headers: { 'x-forwarded-for': address } });

describe('connections', () => {
  const LIMITS: [string, string, (n: number) => [user: string, address: string]][] = [
    ['server', 'REALTIME_MAX_CONNECTIONS', (n) => [`user-${n}`, `203.0.113.${n}`]],
    ['user', 'REALTIME_MAX_CONNECTIONS_PER_USER', (n) => ['alice', `203.0.113.${n}`]],
    ['address', 'REALTIME_MAX_CONNECTIONS_PER_IP', (n) => [`user-${n}`, '203.0.113.1']],
  ];

  test.each(LIMITS)('of one %s are limited by %s, and closing one makes room', async (of, variable, nth) => {
    await withServer({ [variable]: '3' }, async (at) => {
      const connect = (n: number) => join(at, `room-${n}`, nth(n)[0], from(nth(n)[1]));
      const [first] = await Promise.all([1, 2, 3].map(connect));
      const refused = dial(at, 'room', { token: await at.token(nth(4)[0]), ...from(nth(4)[1]) });
      expect((await refused.next('system', 'error')).payload).toEqual({
        error: 'connection limit reached',
        code: 'CONNECTION_LIMIT_REACHED',
        details: `The ${of} has 3 connections`,
        limit: 3,
      });
      expect((await refused.closed).code).toBe(4430);
      if (of !== 'server') await join(at, 'room', 'somebody-else', from('203.0.113.99'));
      await first?.close();
      await connect(4);
    });
  });

  test('of one channel are limited by max_subscribers, readers included, and closing one makes room', async () => {
    await withServer({ REALTIME_MAX_USERS_PER_CHANNEL: '2' }, async (at) => {
      const first = await join(at, 'room', 'alice', { query: 'presence=none' });
      await join(at, 'room', 'alice');
      const refused = dial(at, 'room', { token: await at.token('bob') });
      expect((await refused.next('system', 'error')).payload).toMatchObject({
        code: 'CHANNEL_FULL',
        limit: 2,
      });
      expect((await refused.closed).code).toBe(4430);
      await join(at, 'another-room', 'bob');
      await first.close();
      await join(at, 'room', 'bob');
    });
  });

  test('of one address over REALTIME_CONNECTION_RATE are refused, those of another address are not', async () => {
    await withServer({ REALTIME_CONNECTION_RATE: '0.1/s, burst 3' }, async (at) => {
      for (let i = 0; i < 3; i++) await join(at, 'room', 'alice', from('203.0.113.1'));
      const refused = dial(at, 'room', { token: await at.token('alice'), ...from('203.0.113.1') });
      const answered = new Promise((resolve) => {
        refused.socket.once('unexpected-response', (_request, { statusCode, headers }) =>
          resolve({ statusCode, retryAfter: headers['retry-after'] }),
        );
      });
      expect(await answered).toEqual({ statusCode: 429, retryAfter: '10' });
      await join(at, 'room', 'alice', from('203.0.113.2'));
    });
  });
});

describe('messages', () => {
  const publish = (client: TestClient, times: number) => {
    for (let n = 0; n < times; n++) client.send({ type: 'message', event: 'm', payload: { n }, ref: n });
  };
  const answers = async (client: TestClient, count: number) => {
    const replies = await client.take(count, 'reply');
    return replies.filter(({ event }) => event === 'ok').length;
  };

  test('of a user are limited over all its connections and HTTP together, and do not count for another user', async () => {
    await withServer({ REALTIME_MESSAGE_RATE: '0.1/s, burst 10' }, async (at) => {
      const [one, two, bob] = await Promise.all(
        ['alice', 'alice', 'bob'].map((user) => join(at, 'room', user)),
      );
      if (one === undefined || two === undefined || bob === undefined)
        throw new Error('Expected three clients');
      publish(one, 6);
      publish(two, 6);
      expect((await answers(one, 6)) + (await answers(two, 6))).toBe(10);
      const refusal = [...one.all('reply', 'error'), ...two.all('reply', 'error')][0];
      expect(refusal?.payload).toEqual({
        error: 'rate limit exceeded',
        code: 'RATE_LIMIT_EXCEEDED',
        retry_after: 10,
      });
      const body = { event: 'http', payload: {} };
      const path = '/realtime/channels/room/broadcast';
      const answer = await at.call('POST', path, { token: await at.token('alice'), body });
      expect(answer.status).toBe(429);
      expect(answer.headers.get('retry-after')).toBe('10');
      publish(bob, 10);
      expect(await answers(bob, 10)).toBe(10);
    });
  });
});

test('a channel name may have 100 characters', async () => {
  const client = await join(server, 'n'.repeat(100), 'alice');
  expect(client.received[0]?.payload.channel).toHaveLength(100);
  await client.close();
});

test('with default settings, 100 connections of one user and address receive all that they publish', async () => {
  const rounds = 3;
  const clients = await Promise.all(Array.from({ length: 100 }, () => join(server, 'load', 'loader')));
  for (let round = 0; round < rounds; round++) {
    for (const [i, client] of clients.entries()) {
      client.send({ type: 'broadcast', event: 'load', payload: { n: round * 100 + i } });
    }
    const got = await Promise.all(clients.map((client) => client.take(100, 'message', 'load')));
    const expected = Array.from({ length: 100 }, (_, i) => round * 100 + i);
    for (const messages of got) {
      expect(messages.map(({ payload }) => payload.n).sort((a, b) => a - b)).toEqual(expected);
    }
  }
  expect(clients.flatMap((client) => client.all('system', 'error'))).toEqual([]);
  await Promise.all(clients.map((client) => client.close()));
});

test.each(Object.keys(SLOW))('a client that %s is disconnected when the handshake times out', async (how) => {
  const ended = await slow.get(how);
  expect(ended?.durationMs).toBeGreaterThan(HEAD_TIMEOUT_MS - 100);
  expect(ended?.durationMs).toBeLessThan(HEAD_TIMEOUT_MS + CHECK_INTERVAL_MS + 1_000);
  expect(ended?.text).toMatch(/^HTTP\/1\.1 408 /);
});
