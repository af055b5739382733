import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RawWebSocket } from '../support/raw-socket.js';
import { join, type TestClient } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const MB = 1024 * 1024;
const MESSAGE_BYTES = 60_000;
const AT_ONCE = 20;
/** Far more than the kernel keeps of a connection, some 10 MB over loopback, and the outbox behind it. */
const MOST_MESSAGES = 1_000;

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({
    REALTIME_MESSAGE_RATE: '10000/s, burst 10000',
    REALTIME_CONNECTION_TIMEOUT: '10m',
  });
});
afterAll(() => server.stop());

async function stalled(channel: string, userId: string): Promise<RawWebSocket> {
  const client = await RawWebSocket.open(server, channel, { token: await server.token(userId) });
  await client.next('system', 'connected');
  client.socket.pause();
  return client;
}

/** Publishes in pieces, as fast as they are taken, until `isOver`, which is asked after each; answers how many. */
async function flood(publisher: TestClient, isOver: () => boolean): Promise<number> {
  const filler = 'x'.repeat(MESSAGE_BYTES);
  let n = 0;
  do {
    for (let i = 0; i < AT_ONCE; i++, n++) {
      publisher.send({ type: 'message', event: 'flood', payload: { n, filler } });
    }
    await publisher.settle();
  } while (!isOver() && n < MOST_MESSAGES);
  return n;
}

/** Bytes of all Buffers that are still held, by server and clients together: those that wait for a reader, above all. */
function bufferedBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().arrayBuffers;
}

test('a slow reader is cut off at the outbox limit, the others notice nothing and memory stays bounded', async () => {
  const slow = await Promise.all(Array.from({ length: 5 }, (_, i) => stalled('river', `slow-${i}`)));
  const publisher = await join(server, 'river', 'publisher', { query: 'echo=false' });
  const reader = await join(server, 'river', 'reader');
  const before = bufferedBytes();
  let most = 0;
  const sent = await flood(publisher, () => {
    most = Math.max(most, bufferedBytes() - before);
    return publisher.all('presence', 'leave').length === slow.length;
  });
  await reader.settle();
  expect(reader.all('message', 'flood').map(({ payload }) => payload.n)).toEqual([...Array(sent).keys()]);
  expect(new Set(reader.all('presence', 'leave').map(({ payload }) => payload.user_id)).size).toBe(
    slow.length,
  );
  // 1 MB each, of which most is shared, and what the others have in flight.
  expect(most).toBeLessThan(12 * MB);
  await Promise.all([publisher.close(), reader.close()]);
  for (const client of slow) client.socket.destroy();
});

test('a slow reader that reads on at last finds whole messages in order, then SLOW_CONSUMER and 4409', async () => {
  const slow = await stalled('stream', 'slow');
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
