import { RawWebSocket } from '../support/raw-socket.js';
import { subscribe } from '../support/row-changes.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import type { Target } from './support/target.js';

const READERS = 10;
const CHANNEL = 'large';

attackTest({
  name: 'large-rows',
  what: 'a user writes rows of 5 and 70 MB, which ten members follow without reading',
  schema: 'CREATE TABLE large (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)',
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  await subscribe(target, CHANNEL, { table: 'large' });
  const token = await target.token('mallory');
  const readers = await Promise.all(
    Array.from({ length: READERS }, async () => {
      const reader = await RawWebSocket.open(target, CHANNEL, { token });
      await reader.next('system', 'connected');
      reader.socket.pause();
      return reader;
    }),
  );
  let rows = 0;
  do {
    const megabytes = rows % 2 === 0 ? 70 : 5;
    await target.sql(`INSERT INTO large (body) VALUES (repeat('a', ${megabytes} * 1000000))`);
    rows += 1;
  } while (!signal.aborted);
  for (const { socket } of readers) socket.destroy();
  return { rows, readers: READERS };
}
