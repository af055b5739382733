import { once } from 'node:events';
import { expect } from 'vitest';
import { eventually } from '../support/eventually.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { openClient } from './support/half-open-client.js';
import { openFiles } from './support/open-files.js';
import { IS_FULL } from './support/scale.js';
import type { Target } from './support/target.js';

const SOCKETS_OF_A_KIND = 80;
const POST = 'POST /realtime/channels/square/broadcast HTTP/1.1\r\nHost: x\r\n';
/** Requests whose last answer comes at once, and those that the server waits for. */
const ANSWERED = [
  'rubbish\r\n\r\n',
  `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
  `${POST}Content-Length: 9\r\n\r\n`,
];
const AWAITED = ['', 'GET /healthz HTTP/1.1\r\nHost: x\r\n'];
/** How long the server may take to end what it waits for, and what its peer does not close, in ms. */
const HEAD_MS = 16_000;
const ENDING_MS = 8_000;

attackTest({
  name: 'slow-requests',
  what: 'anybody opens sockets with half a request or a broken one, and never closes them',
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  const before = await openFiles(target);
  const kinds = [...ANSWERED, ...AWAITED];
  const clients = kinds.flatMap((text) =>
    Array.from({ length: SOCKETS_OF_A_KIND }, () => {
      const client = openClient(target);
      client.write(text);
      return client;
    }),
  );
  await Promise.all(clients.map((client) => once(client, 'connect')));
  if (!signal.aborted) await once(signal, 'abort');
  // Those of the victim and of a new connection are few.
  const allowed = before + 20 + (IS_FULL ? 0 : AWAITED.length * SOCKETS_OF_A_KIND);
  const deadline = IS_FULL ? HEAD_MS : ENDING_MS;
  await eventually(async () => expect(await openFiles(target)).toBeLessThanOrEqual(allowed), deadline);
  for (const client of clients) client.destroy();
  return { sockets: clients.length };
}
