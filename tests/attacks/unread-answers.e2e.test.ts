import { head } from '../support/raw-http.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { openClient } from './support/half-open-client.js';
import type { Target } from './support/target.js';

const SOCKETS = 40;
/** How many requests a client sends at once: as many as the server takes, and many more. */
const PIPELINED = [16, 400, 1_300];
const CHANNELS = 200;

attackTest({
  name: 'unread-answers',
  what: 'a user pipelines requests with large answers on forty sockets and reads none of them',
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  const authorization = `Authorization: Bearer ${await target.token('mallory')}`;
  await createChannels(target);
  const requests = [
    head('GET /openapi.json'),
    head('GET /realtime/channels', authorization),
    head('GET /docs/static/swagger-ui-bundle.js'),
    head('GET /docs/yaml'),
  ];
  let sent = 0;
  let destroyed = 0;
  async function hold(n: number): Promise<void> {
    // A short attack goes on until a limit has triggered.
    for (let round = n; !signal.aborted || (n === 1 && destroyed === 0); round += 1) {
      const count = PIPELINED[round % PIPELINED.length] ?? 1;
      const client = openClient(target);
      client.write((requests[round % requests.length] ?? '').repeat(count));
      sent += count;
      // A paused socket notices that it was reset only when it writes.
      const isOver = () => signal.aborted && (n !== 1 || destroyed > 0);
      const probe = setInterval(() => (isOver() ? client.destroy() : client.write('GET')), 250);
      await new Promise((resolve) => client.once('close', resolve));
      clearInterval(probe);
      if (!isOver()) destroyed += 1;
    }
  }
  await Promise.all(Array.from({ length: SOCKETS }, (_, n) => hold(n)));
  return { sent, destroyed };
}

async function createChannels(target: Target): Promise<void> {
  const token = await target.token('root', 'admin');
  const metadata = { text: 'x'.repeat(1_000) };
  const create = (n: number) =>
    target.call('POST', '/realtime/channels', { token, body: { name: `large-${n}`, metadata } });
  for (let n = 0; n < CHANNELS; n += 16)
    await Promise.all(Array.from({ length: 16 }, (_, i) => create(n + i)));
}
