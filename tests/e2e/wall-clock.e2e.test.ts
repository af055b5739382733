import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { join, type TestClient } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const HOUR = 3_600_000;
const PING_MS = 300;

let server: TestServer;
beforeEach(async () => {
  server = await startTestServer({
    REALTIME_PING_INTERVAL: `${PING_MS}ms`,
    REALTIME_CONNECTION_TIMEOUT: '1200ms',
    REALTIME_JWT_CLOCK_TOLERANCE: '0s',
  });
});
afterEach(async () => {
  vi.useRealTimers();
  await server.stop();
});

/** Sets the time of day of this process, in which the server runs; all else goes on. */
function setWallClock(jumpMs: number): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + jumpMs, shouldAdvanceTime: true });
}

/** Waits for pings that the server sends from now on. */
function pings(client: TestClient, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = 0;
    client.socket.on('ping', () => {
      seen += 1;
      if (seen === count) resolve();
    });
    void client.closed.then(({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`)));
  });
}

test.each([HOUR, -HOUR])(
  'connections go on, with their pings, when the wall clock is set by %d ms',
  async (jump) => {
    const [ann, bob] = await Promise.all([
      join(server, 'room', 'ann', { token: await server.token('ann', 'user', 10 * HOUR) }),
      join(server, 'room', 'bob', { token: await server.token('bob', 'user', null) }),
    ]);
    const began = performance.now();
    setWallClock(jump);
    await Promise.all([pings(ann, 5), pings(bob, 5)]);
    expect(performance.now() - began).toBeLessThan(20 * PING_MS);
    const now = Date.now();
    ann.send({ type: 'message', event: 'hello', payload: {} });
    const { timestamp } = await bob.next('message', 'hello');
    expect(Math.abs(Date.parse(timestamp) - now)).toBeLessThan(60_000);
    await Promise.all([ann.close(), bob.close()]);
  },
);

test('a connection that is silent is closed as stale after the wall clock was set back', async () => {
  const ann = await join(server, 'room', 'ann', { token: await server.token('ann', 'user', null) });
  setWallClock(-HOUR);
  ann.socket.pause();
  const began = performance.now();
  await vi.waitFor(
    async () => {
      const { body } = await server.call('GET', '/realtime/channels/room', {
        token: await server.token('bob'),
      });
      expect(body.subscriber_count).toBe(0);
    },
    { timeout: 10_000, interval: 50 },
  );
  expect(performance.now() - began).toBeGreaterThan(1_000);
  ann.socket.terminate();
});

test('a token that expired by the jump ends its connection within a ping interval', async () => {
  const [ann, bob] = await Promise.all([
    join(server, 'room', 'ann', { token: await server.token('ann', 'user', HOUR / 2) }),
    join(server, 'room', 'bob', { token: await server.token('bob', 'user', 2 * HOUR) }),
  ]);
  setWallClock(HOUR);
  expect((await ann.closed).code).toBe(4401);
  await pings(bob, 2);
  await bob.close();
});

test('a token that is valid for longer by the jump keeps its connection', async () => {
  const ann = await join(server, 'room', 'ann', { token: await server.token('ann', 'user', 2_000) });
  setWallClock(-HOUR);
  const began = performance.now();
  await pings(ann, 10);
  expect(performance.now() - began).toBeGreaterThan(2_000);
  await ann.close();
});
