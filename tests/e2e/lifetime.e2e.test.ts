import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientCloseFrame, jsonFrame } from '../support/client-frame.js';
import { eventually } from '../support/eventually.js';
import { RawWebSocket } from '../support/raw-socket.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer({
    REALTIME_CONNECTION_RATE: '1000/s, burst 1000',
    REALTIME_JWT_CLOCK_TOLERANCE: '0s',
  });
  admin = await server.token('root', 'admin');
});
afterAll(() => server.stop());

async function openRaw(at: TestServer, channel: string, userId: string): Promise<RawWebSocket> {
  const client = await RawWebSocket.open(at, channel, { token: await at.token(userId) });
  await client.next('system', 'connected');
  return client;
}

describe.concurrent('the expiry of a token', () => {
  test('closes the connection with AUTH_FAILED and 4401, less than a second later', async () => {
    const client = dial(server, 'expiring', { token: await server.token('alice', 'user', 3_000) });
    const expiresAt = (await client.next('system', 'connected')).payload.token_expires_at ?? '';
    const expiry = Date.parse(expiresAt);
    expect((await client.next('system', 'token_expiring')).payload).toEqual({ expires_at: expiresAt });
    expect((await client.next('system', 'error')).payload).toEqual({
      error: 'authentication failed',
      code: 'AUTH_FAILED',
      details: 'The token has expired',
      reason: 'expired',
    });
    const { code } = await client.closed;
    const late = Date.now() - expiry;
    expect(code).toBe(4401);
    expect(late).toBeGreaterThanOrEqual(0);
    expect(late).toBeLessThan(1_000);
    expect(client.all('system', 'token_expiring')).toHaveLength(1);
    const second = dial(server, 'expiring', {
      token: new URL(client.socket.url).searchParams.get('token') ?? '',
    });
    expect((await second.closed).code).toBe(4401);
  });

  test('closes the connection later by REALTIME_JWT_CLOCK_TOLERANCE, which token_expires_at does not include', async () => {
    const tolerant = await startTestServer({ REALTIME_JWT_CLOCK_TOLERANCE: '2s' });
    const client = dial(tolerant, 'tolerant', { token: await tolerant.token('alice', 'user', 1_000) });
    const { payload } = await client.next('system', 'connected');
    expect((await client.closed).code).toBe(4401);
    const late = Date.now() - Date.parse(payload.token_expires_at ?? '');
    expect(late).toBeGreaterThanOrEqual(2_000);
    expect(late).toBeLessThan(4_000);
    await tolerant.stop();
  });

  test('does not affect the connection before, and the other members then receive its leave', async () => {
    const [bob, alice] = [
      await join(server, 'expiring-2', 'bob'),
      await join(server, 'expiring-2', 'alice', { token: await server.token('alice', 'user', 2_000) }),
    ];
    await alice.next('system', 'token_expiring');
    alice.send({ type: 'message', event: 'still-here', payload: {} });
    await bob.next('message', 'still-here');
    expect((await bob.next('presence', 'leave')).payload.user_id).toBe('alice');
    await bob.close();
  });

  test('is announced by token_expiring 30 s before, or at once if less is left', async () => {
    const [far, near] = [
      await join(server, 'notice', 'far', { token: await server.token('far', 'user', 32_000) }),
      await join(server, 'notice', 'near', { token: await server.token('near', 'user', 10_000) }),
    ];
    await near.settle();
    expect(near.received.slice(0, 4).map(({ event }) => event)).toContain('token_expiring');
    await far.settle();
    expect(far.all('system', 'token_expiring')).toEqual([]);
    const { payload } = await far.next('system', 'token_expiring');
    const ahead = Date.parse(payload.expires_at) - Date.now();
    expect(ahead).toBeLessThanOrEqual(30_000);
    expect(ahead).toBeGreaterThan(29_000);
    await Promise.all([far.close(), near.close()]);
  });
});

describe('a deleted channel', () => {
  const KINDS: [string, (name: string) => Promise<unknown>][] = [
    [
      'created by HTTP',
      (name) => server.call('POST', '/realtime/channels', { token: admin, body: { name } }),
    ],
    ['created by joining', async () => undefined],
  ];
  test.each(KINDS)(
    '%s closes its members with the reason and 4510, and stays deleted until HTTP creates it again',
    async (kind, make) => {
      const name = kind.replaceAll(' ', '-');
      const path = `/realtime/channels/${name}`;
      await make(name);
      const members = await Promise.all(['alice', 'bob'].map((user) => join(server, name, user)));
      const elsewhere = await join(server, 'elsewhere', 'alice');
      expect((await server.call('DELETE', path, { token: admin })).status).toBe(200);
      for (const member of members) {
        expect((await member.next('system', 'channel_closed')).payload).toEqual({
          reason: 'channel deleted',
        });
        expect(await member.closed).toEqual({ code: 4510, reason: 'channel deleted' });
        expect(member.received.at(-1)?.event).toBe('channel_closed');
      }
      const token = await server.token('carol');
      expect((await dial(server, name, { token }).closed).code).toBe(4504);
      expect((await server.call('GET', path, { token })).status).toBe(404);
      await server.call('POST', '/realtime/channels', { token: admin, body: { name } });
      const rejoined = await join(server, name, 'carol');
      expect((await server.call('GET', path, { token })).body).toMatchObject({ subscriber_count: 1 });
      await elsewhere.settle();
      await Promise.all([rejoined.close(), elsewhere.close()]);
    },
  );
});

describe('a connection', () => {
  let quick: TestServer;
  beforeAll(async () => {
    quick = await startTestServer({ REALTIME_PING_INTERVAL: '300ms', REALTIME_CONNECTION_TIMEOUT: '1200ms' });
  });
  afterAll(() => quick.stop());

  test('that answers no ping is closed as stale with 4408 and its user leaves; one that answers stays open', async () => {
    const bob = await join(quick, 'watch', 'bob');
    const pings: number[] = [];
    bob.socket.on('ping', () => pings.push(Date.now()));
    const started = Date.now();
    const dead = await openRaw(quick, 'watch', 'alice');
    expect(await dead.closing()).toBe(4408);
    const silence = Date.now() - started;
    expect(silence).toBeGreaterThanOrEqual(1_190);
    expect(silence).toBeLessThan(2_200);
    expect(dead.pings).toBeGreaterThanOrEqual(2);
    expect(dead.messages.at(-1)).toMatchObject({
      type: 'system',
      event: 'error',
      payload: { error: 'connection is stale', code: 'STALE_CONNECTION' },
    });
    expect((await bob.next('presence', 'leave')).payload.user_id).toBe('alice');
    await eventually(() => expect(pings.length).toBeGreaterThanOrEqual(6));
    await bob.settle();
    await bob.close();
  });

  test('that answers no ping but sends messages stays open', async () => {
    const client = await openRaw(quick, 'watch', 'talker');
    for (let pings = 1; pings <= 6; pings++) {
      await eventually(() => expect(client.pings).toBeGreaterThanOrEqual(pings));
      client.write(jsonFrame({ type: 'message', event: 'tick', payload: { pings } }));
    }
    expect(client.closeCode).toBeUndefined();
    client.socket.destroy();
  });
});

describe('the closing handshake', () => {
  test.each([1000, 1001, 1008, 1011, 3000, 4000, 4999, undefined])(
    'a close frame with the code %s is answered with the same code',
    async (code) => {
      const client = await openRaw(server, 'closing', 'alice');
      client.write(
        jsonFrame({ type: 'message', event: 'last', payload: {} }),
        clientCloseFrame(code, code === undefined ? '' : 'bye'),
        jsonFrame({ type: 'message', event: 'too-late', payload: {} }),
      );
      expect(await client.closing()).toBe(code ?? 1005);
      expect(client.messages.filter(({ type }) => type === 'message').map(({ event }) => event)).toEqual([
        'last',
      ]);
      await client.gone;
    },
  );

  test.each<[string, (client: RawWebSocket) => void]>([
    ['half-closes its socket', ({ socket }) => void socket.end()],
    ['destroys its socket', ({ socket }) => void socket.destroy()],
    ['resets its socket', ({ socket }) => void socket.resetAndDestroy()],
  ])('a client that %s without a close frame leaves its channel', async (_how, end) => {
    const bob = await join(server, 'breaking', 'bob');
    const client = await openRaw(server, 'breaking', 'alice');
    await bob.next('presence', 'join', ({ payload }) => payload.user_id === 'alice');
    end(client);
    expect((await bob.next('presence', 'leave')).payload.user_id).toBe('alice');
    await client.gone;
    await bob.close();
  });

  test('a client that never closes its side of the socket is disconnected', async () => {
    const client = await openRaw(server, 'lingering', 'lingerer');
    client.socket.removeAllListeners('end');
    client.write(clientCloseFrame(1000));
    await client.closing();
    await eventually(async () => {
      const { body } = await server.call('GET', '/realtime/stats', { token: admin });
      expect(JSON.stringify(body)).not.toContain('lingerer');
    });
    client.socket.destroy();
  });
});

describe('a stopping server', () => {
  test('flushes pending messages and closes every client with 1012', async () => {
    const stopping = await startTestServer({ REALTIME_MESSAGE_RATE: '5000/s, burst 5000' });
    const late = await openRaw(stopping, 'room', 'late');
    late.socket.pause();
    const [alice, bob] = await Promise.all([join(stopping, 'room', 'alice'), join(stopping, 'room', 'bob')]);
    for (let n = 0; n < 200; n++)
      alice.send({ type: 'message', event: 'tick', payload: { n, x: 'x'.repeat(1000) } });
    await alice.settle();
    const stopped = stopping.stop();
    late.socket.resume();
    for (const client of [alice, bob]) {
      expect(await client.closed).toEqual({ code: 1012, reason: 'server restart' });
      expect(client.all('message').map(({ payload }) => payload.n)).toEqual([...Array(200).keys()]);
    }
    expect(await late.closing()).toBe(1012);
    expect(late.messages.filter(({ type }) => type === 'message')).toHaveLength(200);
    await stopped;
  });

  test('stops at once if its clients answer, and within REALTIME_SHUTDOWN_TIMEOUT if they do not', async () => {
    const polite = await startTestServer({ REALTIME_SHUTDOWN_TIMEOUT: '2s' });
    await join(polite, 'room', 'alice');
    const before = performance.now();
    await polite.stop();
    expect(performance.now() - before).toBeLessThan(1_000);

    const rude = await startTestServer({ REALTIME_SHUTDOWN_TIMEOUT: '2s' });
    const clients = await Promise.all(['a', 'b'].map((user) => openRaw(rude, 'room', user)));
    for (const { socket } of clients) socket.removeAllListeners('end');
    clients[1]?.socket.pause();
    const started = performance.now();
    await rude.stop();
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(await clients[0]?.closing()).toBe(1012);
    for (const { socket } of clients) socket.destroy();
  });

  test('refuses new connections', async () => {
    const stopping = await startTestServer({ REALTIME_SHUTDOWN_TIMEOUT: '2s' });
    const rude = await openRaw(stopping, 'room', 'alice');
    const token = await stopping.token('bob');
    const stopped = stopping.stop();
    const refused = dial(stopping, 'room', { token });
    expect((await refused.closed).code).toBe(1006);
    rude.socket.destroy();
    await stopped;
  });
});
