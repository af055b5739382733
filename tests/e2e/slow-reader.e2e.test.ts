import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RawWebSocket } from '../support/raw-socket.js';
import { join, type TestClient } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const MB = 1024 * 1024;
const MESSAGE_BYTES = 60_000;
const MESSAGES_PER_ROUND = 20;
/** Far more than fits into the buffers of the kernel (about 10 MB over loopback) and the outbox. */
const MAX_MESSAGES = 1_000;

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({
    REALTIME_MESSAGE_RATE: '10000/s, burst 10000',
    REALTIME_CONNECTION_TIMEOUT: '10m',
  });
});
afterAll(() => server.stop());

/** Joins and stops reading after `connected`. */
async function joinStalled(channel: string, userId: string): Promise<RawWebSocket> {
  const client = await RawWebSocket.open(server, channel, { token: await server.token(userId) });
  await client.next('system', 'connected');
  client.socket.pause();
  return client;
}

/**
 * Publishes in rounds, as fast as the server accepts them, until `isOver` returns true after a round. Returns the
 * number of messages.
 */
async function flood(publisher: TestClient, isOver: () => boolean): Promise<number> {
  const filler = 'x'.repeat(MESSAGE_BYTES);
  let n = 0;
  do {
    for (let i = 0; i < MESSAGES_PER_ROUND; i++, n++) {
      publisher.send({ type: 'message', event: 'flood', payload: { n, filler } });
    }
    await publisher.settle();
  } while (!isOver() && n < MAX_MESSAGES);
  return n;
}

/** Returns the bytes of all live Buffers of server and clients, mostly those that wait for a reader. */
function bufferedBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().arrayBuffers;
}

test('a slow reader is closed at the outbox limit, the others keep receiving, and memory stays bounded', async () => {
  const slow = await Promise.all(Array.from({ length: 5 }, (_, i) => joinStalled('river', `slow-${i}`)));
  const publisher = await join(server, 'river', 'publisher', { query: 'echo=false' });
  const reader = await join(server, 'river', 'reader');
  const before = bufferedBytes();
  let peak = 0;
  const sent = await flood(publisher, () => {
    peak = Math.max(peak, bufferedBytes() - before);
    return publisher.all('presence', 'leave').length === slow.length;
  });
  await reader.settle();
  expect(reader.all('message', 'flood').map(({ payload }) => payload.n)).toEqual([...Array(sent).keys()]);
  expect(new Set(reader.all('presence', 'leave').map(({ payload }) => payload.user_id)).size).toBe(
    slow.length,
  );
  // 1 MB for each slow reader, mostly shared, and what is in flight to the others.
  expect(peak).toBeLessThan(12 * MB);
  await Promise.all([publisher.close(), reader.close()]);
  for (const client of slow) client.socket.destroy();
});

test('a slow reader that reads again receives whole messages in order, then SLOW_CONSUMER and 4409', async () => {
  const slow = await joinStalled('stream', 'slow');
  const publisher = await join(server, 'stream', 'publisher', { query: 'echo=false' });
  await flood(publisher, () => publisher.all('presence', 'leave').length > 0);
  slow.socket.resume();
  expect(await slow.closing()).toBe(4409);
  const numbers = slow.messages.filter(({ event }) => event === 'flood').map(({ payload }) => payload.n);
  expect(numbers).toEqual([...Array(numbers.length).keys()]);
  expect(slow.messages.at(-1)).toMatchObject({
    type: 'system',
    event: 'error',
    payload: { error: 'connection reads too slowly', code: 'SLOW_CONSUMER' },
  });
  const { text } = await server.call('GET', '/metrics', { token: await server.token('root', 'admin') });
  expect(text).toMatch(/^realtime_slow_consumers_total 6$/m);
  await slow.gone;
  await publisher.close();
});
