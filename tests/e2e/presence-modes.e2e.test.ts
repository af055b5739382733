import { once } from 'node:events';
import { LIMITS } from '@goforward/realtime-protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { join, type TestClient } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const PING_MS = 300;
const LEASE_MS = 1_200;
let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({
    REALTIME_CONNECTION_RATE: '10000/s, burst 10000',
    REALTIME_MAX_USERS_PER_CHANNEL: '1000',
  });
});
afterAll(() => server.stop());

function update(client: TestClient, state: unknown): void {
  client.send({ type: 'presence', event: 'update', payload: { state } });
}

/** Sets a user's presence over HTTP. */
async function postPresence(at: TestServer, channel: string, userId: string, state: object): Promise<void> {
  const options = { token: await at.token(userId), body: { state } };
  const { status, body } = await at.call('POST', `/realtime/channels/${channel}/presence`, options);
  expect({ status, body }).toEqual({ status: 200, body: { message: 'presence updated successfully' } });
}

describe('presence on a new connection', () => {
  test('presence=each sends a join for every listed user right after `connected`, its own included', async () => {
    const [alice, bob] = [await join(server, 'room', 'alice'), await join(server, 'room', 'bob')];
    update(alice, { mood: 'good' });
    await bob.next('presence', 'update');
    const carol = await join(server, 'room', 'carol');
    await carol.settle();
    const events = carol.received.map(({ type, event }) => `${type}/${event}`);
    expect(events).toEqual(['system/connected', ...Array(3).fill('presence/join'), 'reply/ok']);
    const states = Object.fromEntries(
      carol.all('presence').map(({ payload }) => [payload.user_id, payload.state]),
    );
    expect(states).toMatchObject({ alice: { mood: 'good' }, bob: { status: 'online' }, carol: {} });
    expect(carol.received[0]?.payload).toMatchObject({ presence_count: 3 });
    expect(carol.received[0]?.payload).not.toHaveProperty('presence');
    await Promise.all([alice, bob, carol].map((client) => client.close()));
  });

  test('presence=each sends at most 200 joins, and presence_count is the total', async () => {
    const first = await join(server, 'crowd', 'first', { query: 'presence=none' });
    for (let i = 0; i < 204; i++) await postPresence(server, 'crowd', `user-${i}`, { i });
    const late = await join(server, 'crowd', 'late');
    await late.settle();
    expect(late.received[0]?.payload).toMatchObject({ presence_count: 205, subscriber_count: 2 });
    const joins = late.all('presence', 'join').map(({ payload }) => payload.user_id);
    expect(new Set(joins).size).toBe(LIMITS.presenceJoins);
    await Promise.all([first.close(), late.close()]);
  });

  test('presence=diff sends the presence map in `connected`, then merged changes only', async () => {
    const alice = await join(server, 'diff', 'alice');
    const watcher = await join(server, 'diff', 'watcher', { query: 'presence=diff' });
    const online = { status: 'online', last_seen: expect.any(String) };
    expect(watcher.received[0]?.payload.presence).toEqual({ alice: online, watcher: online });
    const bob = await join(server, 'diff', 'bob');
    expect((await watcher.next('presence')).payload).toEqual({
      joins: { bob: online },
      updates: {},
      leaves: {},
    });
    update(alice, { n: 1 });
    expect((await watcher.next('presence')).payload).toEqual({
      joins: {},
      updates: { alice: { ...online, n: 1 } },
      leaves: {},
    });
    await bob.close();
    const left = await watcher.next('presence');
    expect(left).toMatchObject({ event: 'diff', user_id: 'system' });
    expect(left.payload).toEqual({
      joins: {},
      updates: {},
      leaves: { bob: { ...online, status: 'offline' } },
    });
    expect(alice.all('presence', 'diff')).toEqual([]);
    await Promise.all([alice.close(), watcher.close()]);
  });

  test('presence=none sends no presence, neither at first nor later', async () => {
    const quiet = await join(server, 'quiet', 'quiet', { query: 'presence=none' });
    const alice = await join(server, 'quiet', 'alice');
    update(alice, { n: 1 });
    await alice.next('presence', 'update');
    await alice.close();
    await quiet.settle();
    expect(quiet.received.map(({ type }) => type)).toEqual(['system', 'reply']);
    expect(quiet.received[0]?.payload).not.toHaveProperty('presence');
    await quiet.close();
  });
});

describe('presence set over HTTP', () => {
  let shortLease: TestServer;
  beforeAll(async () => {
    shortLease = await startTestServer({
      REALTIME_PING_INTERVAL: `${PING_MS}ms`,
      REALTIME_CONNECTION_TIMEOUT: `${LEASE_MS}ms`,
    });
  });
  afterAll(() => shortLease.stop());

  /** Waits for pings, which the server sends every 300 ms. */
  async function awaitPings(client: TestClient, times: number): Promise<void> {
    for (let i = 0; i < times; i++) await once(client.socket, 'ping');
  }
  const about = (userId: string) => (message: { payload: { user_id: string } }) =>
    message.payload.user_id === userId;

  test('lists a user without a connection until the connection timeout has passed since the last call', async () => {
    const bob = await join(shortLease, 'lease', 'bob');
    await postPresence(shortLease, 'lease', 'alice', { via: 'http' });
    const { payload } = await bob.next('presence', 'join', about('alice'));
    expect(payload.state).toMatchObject({ status: 'online', via: 'http' });
    let renewed = 0;
    for (let n = 1; n <= 3; n++) {
      await awaitPings(bob, 2);
      renewed = Date.now();
      await postPresence(shortLease, 'lease', 'alice', { n });
      expect((await bob.next('presence', 'update', about('alice'))).payload.state).toMatchObject({ n });
    }
    await bob.next('presence', 'leave', about('alice'));
    const lasted = Date.now() - renewed;
    expect(lasted).toBeGreaterThanOrEqual(LEASE_MS - 20);
    expect(lasted).toBeLessThan(LEASE_MS + 1_000);
    expect(bob.all('presence', 'join').filter(about('alice'))).toHaveLength(1);
    const path = '/realtime/channels/lease/presence';
    const { body } = await shortLease.call('GET', path, { token: await shortLease.token('bob') });
    expect(body).toMatchObject({ presence: { bob: {} }, total_users: 1 });
    await bob.close();
  });

  test('updates the state of a connected user, and lasts as long as the connection', async () => {
    const [alice, bob] = [await join(shortLease, 'both', 'alice'), await join(shortLease, 'both', 'bob')];
    await postPresence(shortLease, 'both', 'alice', { via: 'http' });
    expect((await alice.next('presence', 'update')).payload.state).toMatchObject({ via: 'http' });
    await awaitPings(alice, 6);
    await bob.settle();
    expect(bob.all('presence', 'leave')).toEqual([]);
    await alice.close();
    await bob.next('presence', 'leave', about('alice'));
    await bob.close();
  });

  test('is taken over by a connection that joins later, and ends when that connection closes', async () => {
    const bob = await join(shortLease, 'taken', 'bob');
    await postPresence(shortLease, 'taken', 'alice', { via: 'http' });
    const alice = await join(shortLease, 'taken', 'alice');
    expect((await alice.next('presence', 'join', about('alice'))).payload.state).toMatchObject({
      via: 'http',
    });
    await alice.close();
    await bob.next('presence', 'leave', about('alice'));
    await bob.settle();
    expect(
      bob
        .all('presence')
        .filter(about('alice'))
        .map(({ event }) => event),
    ).toEqual(['join', 'leave']);
    await bob.close();
  });
});
