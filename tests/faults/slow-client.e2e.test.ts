import { once } from 'node:events';
import { expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { eventually } from '../support/eventually.js';
import { FaultRun } from './fault-run.js';

/** More bytes than may wait for members. */
const ROWS = 22_500;
const KILOBYTES_A_ROW = 4;
const SLOW_CONSUMER = 4409;

/** Counts rows with the numbers from 1, each of which must come once and in order. */
class Counter {
  last = 0;
  cursor = '';
  isInOrder = true;

  listen(socket: WebSocket): void {
    socket.on('message', (data: Buffer) => {
      // Looked for, and not parsed: the reader must not be what is slow.
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

test('T24: a client that does not read is cut off when it holds up others, who do not notice, and resumes without a loss', async () => {
  const run = await FaultRun.start({ seed: 1, postgres: 'newest', writers: 0, clients: 0 });
  try {
    await run.sql('CREATE TABLE large (n int PRIMARY KEY, filler text)');
    await run.subscribe('large', { table: 'large' });
    const fast = [new Counter(), new Counter()];
    for (const [n, counter] of fast.entries()) counter.listen(await run.open('large', `fast ${n}`));
    const slow = new Counter();
    const stuck = await run.open('large', 'slow');
    slow.listen(stuck);
    const closed = once(stuck, 'close');
    await run.sql(`INSERT INTO large VALUES (1, 'the first')`);
    await eventually(() => expect(slow.last).toBe(1));
    stuck.pause();
    await run.sql(
      `INSERT INTO large SELECT n, repeat(md5(n::text), ${32 * KILOBYTES_A_ROW}) FROM generate_series(2, ${ROWS}) n`,
    );
    // Whoever is cut off has a moment to read why.
    await eventually(async () => expect(await run.slowConsumers()).toBe(1), 60_000);
    stuck.resume();
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
