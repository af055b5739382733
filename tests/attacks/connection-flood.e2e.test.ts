import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { openClient } from './support/half-open-client.js';
import { openFiles } from './support/open-files.js';
import type { Target } from './support/target.js';

const AT_ONCE = 25;
/** Connections of one address by default, and a fifth more for HTTP. */
const LIMIT = 1_200;
/** Files that the server has open for its own and for the victim. */
const OTHER_FILES = 100;

attackTest({
  name: 'connection-flood',
  what: 'one address opens sockets as fast as it can, and sends nothing on them',
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  const held = new Set<Socket>();
  let opened = 0;
  let refused = 0;
  async function open(): Promise<void> {
    while (!signal.aborted) {
      const client = openClient(target).resume();
      held.add(client);
      opened += 1;
      client.once('close', () => {
        held.delete(client);
        refused += 1;
      });
      client.once('end', () => client.end());
      await Promise.race([once(client, 'connect'), once(client, 'close')]).catch(() => undefined);
      if (opened % 100 === 0 && (await openFiles(target)) > LIMIT + OTHER_FILES)
        throw new Error(`the server holds more than ${LIMIT} sockets of one address`);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, open));
  for (const client of held) client.destroy();
  if (opened > LIMIT + AT_ONCE && refused === 0) throw new Error('no socket was refused');
  return { opened, refused };
}
