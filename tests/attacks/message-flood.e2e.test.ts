import { WebSocket } from 'ws';
import { eventually } from '../support/eventually.js';
import { dial, type TestClient } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { CHANNEL, type Target } from './support/target.js';

const CONNECTIONS = 50;
/** One round of every connection: valid messages, and all kinds of invalid ones. */
const ROUND = [
  { type: 'ping', event: 'ping' },
  { type: 'message', event: 'noise', payload: { text: 'x'.repeat(1_000) } },
  { type: 'message', event: '', payload: {} },
  { type: 'nonsense', event: 'x' },
  { type: 'presence', event: 'update', payload: { state: { a: 1 } } },
  { type: 'unsubscribe', event: 'database_changes', payload: { id: 'sub_unknown' } },
  '[[[[[[[[',
  Buffer.from([0xff, 0xfe]),
];

attackTest({
  name: 'message-flood',
  what: 'one user floods the victim’s channel and a channel of its own over fifty connections, mostly with invalid messages',
  run: flood,
});

async function flood(target: Target, signal: AbortSignal): Promise<Counts> {
  const token = await target.token('mallory');
  let sent = 0;
  let connections = 0;
  async function attack(n: number): Promise<void> {
    while (!signal.aborted) {
      // The server closes a connection after a hundred errors within a minute.
      const client = dial(target, n % 5 === 0 ? CHANNEL : 'cellar', { token });
      connections += 1;
      sent += await floodOver(client, signal);
      client.socket.terminate();
      await client.closed;
    }
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, (_, n) => attack(n)));
  return { connections, sent };
}

async function floodOver(client: TestClient, signal: AbortSignal): Promise<number> {
  let sent = 0;
  await Promise.race([client.closed, new Promise((resolve) => client.socket.once('open', resolve))]);
  while (!signal.aborted && client.socket.readyState === WebSocket.OPEN) {
    for (const message of ROUND) client.send(message);
    sent += ROUND.length;
    await eventually(() => {
      if (client.socket.bufferedAmount > 0) throw new Error('not sent yet');
    }).catch(() => undefined);
  }
  return sent;
}
