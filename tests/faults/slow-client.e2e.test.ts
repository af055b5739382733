import { once } from 'node:events';
import { expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { eventually } from '../support/eventually.js';
import { FaultRun } from './fault-run.js';

/** Enough rows to exceed the bytes that may be pending for members. */
const ROWS = 22_500;
const KILOBYTES_A_ROW = 4;
const SLOW_CONSUMER = 4409;

/** Counts rows numbered from 1, which must arrive once each and in order. */
class Counter {
  last = 0;
  cursor = '';
  isInOrder = true;

  listen(socket: WebSocket): void {
    socket.on('message', (data: Buffer) => {
      // Searches the bytes instead of parsing JSON, so that the reader itself is never the slow part.
      const at = data.indexOf('"new_record":{"n":');
      if (at < 0) return;
      const number = Number.parseInt(data.toString('latin1', at + 18, at + 28), 10);
      if (number !== this.last + 1) this.isInOrder = false;
      this.last = number;
      const end = data.lastIndexOf('"cursor":"');
      this.cursor = data.toString('latin1', end + 10, data.length - 2);
    });
  }
}

test('T24: a client that stops reading is closed as a slow consumer, the others receive everything, and it resumes without loss', async () => {
  const run = await FaultRun.start({ seed: 1, postgres: 'newest', writers: 0, clients: 0 });
  try {
    await run.sql('CREATE TABLE large (n int PRIMARY KEY, filler text)');
    await run.subscribe('large', { table: 'large' });
    const fast = [new Counter(), new Counter()];
    for (const [n, counter] of fast.entries()) counter.listen(await run.open('large', `fast ${n}`));
    const slow = new Counter();
    const slowSocket = await run.open('large', 'slow');
    slow.listen(slowSocket);
    const closed = once(slowSocket, 'close');
    await run.sql(`INSERT INTO large VALUES (1, 'the first')`);
    await eventually(() => expect(slow.last).toBe(1));
    slowSocket.pause();
    await run.sql(
      `INSERT INTO large SELECT n, repeat(md5(n::text), ${32 * KILOBYTES_A_ROW}) FROM generate_series(2, ${ROWS}) n`,
    );
    // The server closes a slow consumer after a grace period in which it can still read the reason.
    await eventually(async () => expect(await run.slowConsumers()).toBe(1), 60_000);
    slowSocket.resume();
    expect((await closed)[0]).toBe(SLOW_CONSUMER);
    expect(slow.last).toBeLessThan(ROWS);
    await eventually(() => expect(fast.map(({ last }) => last)).toEqual([ROWS, ROWS]), 60_000);
    slow.listen(await run.open('large', 'slow', slow.cursor));
    await eventually(() => expect(slow.last).toBe(ROWS), 60_000);
    for (const { isInOrder } of [...fast, slow]) expect(isInOrder).toBe(true);
  } finally {
    await run.stop();
  }
}, 180_000);
