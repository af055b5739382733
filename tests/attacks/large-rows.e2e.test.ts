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
  const follower = await RawWebSocket.open(target, CHANNEL, { token });
  let rows = 0;
  do {
    await target.sql(
      `INSERT INTO large (body) VALUES (repeat('a', 70000000)), (repeat('b', 5000000)), ('c')`,
    );
    // Throws when the stream stands still.
    await follower.next('system', 'gap');
    rows += 3;
  } while (!signal.aborted);
  for (const { socket } of [...readers, follower]) socket.destroy();
  return { rows, readers: READERS };
}
