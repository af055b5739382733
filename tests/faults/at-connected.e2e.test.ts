import { once } from 'node:events';
import { expect, test } from 'vitest';
import { FaultRun } from './fault-run.js';
import { IS_FULL } from './scale.js';

const TIMES = IS_FULL ? 1_000 : 50;

test(`T31: a row written at the moment of \`connected\` is delivered, in ${TIMES} of ${TIMES} attempts`, async () => {
  const run = await FaultRun.start({ seed: 1, postgres: 'newest', writers: 1, clients: 1 });
  try {
    await run.sql('CREATE TABLE moments (n int PRIMARY KEY)');
    await run.subscribe('moments', { table: 'moments' });
    for (let n = 1; n <= TIMES; n++) {
      const socket = await run.open('moments', `user ${n % 7}`);
      const [written, [first]] = await Promise.all([
        run.sql(`INSERT INTO moments VALUES (${n})`),
        once(socket, 'message') as Promise<[Buffer]>,
      ]);
      expect(written).toEqual([]);
      expect(JSON.parse(first.toString())).toMatchObject({ payload: { change: { new_record: { n } } } });
      socket.terminate();
    }
    const { violations } = await run.outcome();
    expect(violations).toEqual([]);
  } finally {
    await run.stop();
  }
}, 300_000);
