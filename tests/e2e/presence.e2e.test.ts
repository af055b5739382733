import type { PresenceMap } from '@goforward/realtime-protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonFrame } from '../support/client-frame.js';
import { RawWebSocket } from '../support/raw-socket.js';
import { join, type TestClient } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer({
    REALTIME_CONNECTION_RATE: '10000/s, burst 10000',
    REALTIME_MESSAGE_RATE: '10000/s, burst 10000',
  });
  admin = await server.token('root', 'admin');
});
afterAll(() => server.stop());

function update(client: TestClient, state: unknown): void {
  client.send({ type: 'presence', event: 'update', payload: { state } });
}

async function presenceOf(channel: string): Promise<PresenceMap> {
  const { status, body } = await server.call('GET', `/realtime/channels/${channel}/presence`, {
    token: admin,
  });
  expect(status).toBe(200);
  return body.presence;
}

const about = (userId: string) => (message: { payload: { user_id: string } }) =>
  message.payload.user_id === userId;

test('messages and presence updates of a user arrive in the order in which they were sent', async () => {
  const [speaker, listener] = [
    await join(server, 'order', 'speaker'),
    await join(server, 'order', 'listener'),
  ];
  speaker.send({ type: 'presence', event: 'leave', payload: {} });
  await listener.next('presence', 'leave', about('speaker'));
  const from = listener.received.length;
  speaker.send({ type: 'message', event: 'a', payload: {} });
  update(speaker, { step: 1 });
  speaker.send({ type: 'message', event: 'b', payload: {} });
  await listener.next('message', 'b');
  expect(listener.received.slice(from).map(({ type, event }) => `${type}/${event}`)).toEqual([
    'message/a',
    'presence/join',
    'message/b',
  ]);
  await Promise.all([speaker.close(), listener.close()]);
});

describe('the presence list', () => {
  test('contains writers, but neither readers nor connections with presence=none', async () => {
    const permissions = { write: ['speaker'] };
    await server.call('POST', '/realtime/channels', { token: admin, body: { name: 'stage', permissions } });
    const clients = await Promise.all([
      join(server, 'stage', 'writer', { role: 'speaker' }),
      join(server, 'stage', 'reader'),
      join(server, 'stage', 'hidden', { role: 'speaker', query: 'presence=none' }),
    ]);
    const path = '/realtime/channels/stage/presence';
    const { body } = await server.call('GET', path, { token: admin });
    expect(body.presence).toEqual({ writer: { status: 'online', last_seen: expect.stringMatching(ISO) } });
    expect(body.total_users).toBe(3);
    expect(body.connected_users).toEqual(expect.arrayContaining(['writer', 'reader', 'hidden']));
    await Promise.all(clients.map((client) => client.close()));
  });

  test('contains a connection with presence=none after its first update, and still sends it no presence', async () => {
    const hidden = await join(server, 'shy', 'hidden', { query: 'presence=none' });
    const bob = await join(server, 'shy', 'bob');
    update(hidden, { status: 'here' });
    const { payload } = await bob.next('presence', 'join', about('hidden'));
    expect(payload.state).toEqual({ status: 'here', last_seen: expect.any(String) });
    await hidden.settle();
    expect(hidden.all('presence')).toEqual([]);
    await hidden.close();
    await bob.next('presence', 'leave', about('hidden'));
    await bob.close();
  });
});

describe('join, update and leave', () => {
  test('reach every member with the whole state, including the member they are about', async () => {
    const alice = await join(server, 'room', 'alice');
    const bob = await join(server, 'room', 'bob');
    for (const client of [alice, bob]) {
      const joined = await client.next('presence', 'join', about('bob'));
      expect(joined).toMatchObject({
        user_id: 'bob',
        payload: { user_id: 'bob', state: { status: 'online' } },
      });
    }
    const before = Date.now();
    update(bob, { status: 'busy', cursor: { x: 1, y: [2] } });
    for (const client of [alice, bob]) {
      const { payload } = await client.next('presence', 'update');
      expect(payload).toEqual({
        user_id: 'bob',
        state: { status: 'busy', cursor: { x: 1, y: [2] }, last_seen: expect.stringMatching(ISO) },
      });
      expect(Date.parse(payload.state.last_seen)).toBeGreaterThanOrEqual(before);
    }
    bob.send({ type: 'presence', event: 'leave' });
    for (const client of [alice, bob]) {
      const { payload } = await client.next('presence', 'leave');
      expect(payload).toMatchObject({
        user_id: 'bob',
        state: { status: 'offline', cursor: { x: 1, y: [2] } },
      });
    }
    bob.send({ type: 'message', event: 'still-connected', payload: {} });
    await alice.next('message', 'still-connected');
    expect(Object.keys(await presenceOf('room'))).toEqual(['alice']);
    update(bob, {});
    await alice.next('presence', 'join', about('bob'));
    expect(await presenceOf('room')).toMatchObject({ bob: { status: 'online' } });
    await Promise.all([alice.close(), bob.close()]);
  });

  test('an update is merged by top-level key, null removes a key, and the server sets last_seen', async () => {
    const alice = await join(server, 'merge', 'alice');
    update(alice, { a: { deep: 1 }, b: 2, last_seen: '1999-01-01T00:00:00.000Z' });
    await alice.next('presence', 'update');
    update(alice, { a: { other: 1 }, b: null, c: [null], missing: null });
    const { state } = (await alice.next('presence', 'update')).payload;
    expect(state).toEqual({
      status: 'online',
      a: { other: 1 },
      c: [null],
      last_seen: expect.stringMatching(/^20[2-9]/),
    });
    update(alice, { status: null });
    expect((await alice.next('presence', 'update')).payload.state).not.toHaveProperty('status');
    await alice.close();
  });

  test('a message advances last_seen without a presence message', async () => {
    const alice = await join(server, 'seen', 'alice');
    const seen = async () => Date.parse((await presenceOf('seen')).alice?.last_seen ?? '');
    const before = await seen();
    alice.send({ type: 'message', event: 'm', payload: {} });
    const { timestamp } = await alice.next('message', 'm');
    expect(await seen()).toBeGreaterThanOrEqual(Math.max(before, Date.parse(timestamp)));
    expect(alice.all('presence', 'update')).toEqual([]);
    await alice.close();
  });

  test('several connections of a user share one join, one state, and one leave when the last one closes', async () => {
    const bob = await join(server, 'tabs', 'bob');
    const tabs = [await join(server, 'tabs', 'alice'), await join(server, 'tabs', 'alice')];
    const [first, second] = tabs;
    if (first === undefined || second === undefined) throw new Error('two tabs expected');
    update(second, { tab: 2 });
    await first.next('presence', 'update', about('alice'));
    update(first, { other: 1 });
    expect(
      (await bob.next('presence', 'update', ({ payload }) => 'other' in payload.state)).payload.state,
    ).toMatchObject({
      tab: 2,
      other: 1,
    });
    const third = await join(server, 'tabs', 'alice');
    expect((await third.next('presence', 'join', about('alice'))).payload.state).toMatchObject({ tab: 2 });
    await second.close();
    await third.close();
    await bob.settle();
    expect(bob.all('presence', 'leave')).toEqual([]);
    await first.close();
    await bob.next('presence', 'leave', about('alice'));
    await bob.settle();
    expect(bob.all('presence', 'join').filter(about('alice'))).toHaveLength(1);
    expect(bob.all('presence', 'leave')).toHaveLength(1);
    await bob.close();
  });

  test('a terminated socket causes a leave', async () => {
    const [alice, bob] = [await join(server, 'torn', 'alice'), await join(server, 'torn', 'bob')];
    alice.socket.terminate();
    expect((await bob.next('presence', 'leave')).payload).toMatchObject({ user_id: 'alice' });
    await bob.close();
  });

  test('updates of one tick are merged into few messages, and the last state wins', async () => {
    const bob = await join(server, 'merged', 'bob');
    const alice = await RawWebSocket.open(server, 'merged', { token: await server.token('alice') });
    await alice.next('presence', 'join');
    const updates = Array.from({ length: 50 }, (_, n) =>
      jsonFrame({ type: 'presence', event: 'update', payload: { state: { n, [`key-${n}`]: true } } }),
    );
    alice.write(...updates);
    const last = await bob.next('presence', 'update', ({ payload }) => payload.state.n === 49);
    expect(Object.keys(last.payload.state)).toHaveLength(53);
    await bob.settle();
    expect(bob.all('presence', 'update').length).toBeLessThanOrEqual(5);
    alice.socket.destroy();
    await bob.close();
  });
});

describe('a presence state', () => {
  test('over 8192 bytes after merging is refused with MESSAGE_TOO_LARGE, and the previous state stays', async () => {
    const alice = await join(server, 'large', 'alice');
    update(alice, { a: 'x'.repeat(5_000) });
    await alice.next('presence', 'update');
    for (const state of [{ b: 'x'.repeat(5_000) }, { a: 'é'.repeat(4_200) }]) {
      update(alice, state);
      expect((await alice.next('system', 'error')).payload).toMatchObject({
        code: 'MESSAGE_TOO_LARGE',
        max_bytes: 8192,
      });
    }
    expect(Object.keys((await presenceOf('large')).alice ?? {}).sort()).toEqual(['a', 'last_seen', 'status']);
    const fits = 8192 - JSON.stringify({ status: 'online', a: '' }).length;
    update(alice, { a: 'y'.repeat(fits) });
    await alice.next('presence', 'update');
    update(alice, { a: 'y'.repeat(fits + 1) });
    await alice.next('system', 'error');
    await alice.close();
  });

  test.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty'])(
    'may have the key %s like any other',
    async (key) => {
      const alice = await join(server, 'proto', 'alice');
      const text = `{"type":"presence","event":"update","payload":{"state":{"${key}":{"polluted":true}}}}`;
      alice.send(text);
      const { state } = (await alice.next('presence', 'update')).payload;
      expect(Object.getOwnPropertyDescriptor(state, key)?.value).toEqual({ polluted: true });
      expect(({} as Record<string, unknown>).polluted).toBeUndefined();
      alice.send(text.replace('{"polluted":true}', 'null'));
      expect(Object.keys((await alice.next('presence', 'update')).payload.state).sort()).toEqual([
        'last_seen',
        'status',
      ]);
      await alice.close();
    },
  );

  test.each(['__proto__', 'constructor', '0'])('may belong to a user named %s', async (userId) => {
    const [watcher, one] = [
      await join(server, 'names', 'watcher', { query: 'presence=diff' }),
      await join(server, 'names', userId),
    ];
    const diff = await watcher.next('presence', 'diff');
    expect(Object.keys(diff.payload.joins)).toEqual([userId]);
    expect(JSON.stringify(await presenceOf('names'))).toContain(`"${userId}":{"status":"online"`);
    await one.close();
    await watcher.next('presence', 'diff', ({ payload }) => Object.hasOwn(payload.leaves, userId));
    await watcher.close();
  });
});
