import { jsonFrame } from '../support/client-frame.js';
import { head } from '../support/raw-http.js';
import { handshake, RawSocket } from '../support/raw-socket.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { CHANNEL, type Target } from './support/target.js';

const AT_ONCE = 10;
const EARLIER = [
  'GET /healthz',
  'GET /openapi.json',
  'GET /docs/static/swagger-ui-bundle.js',
  'GET /nowhere',
];

attackTest({
  name: 'upgrade-behind-request',
  what: 'anybody sends handshakes that are refused, in one packet with other requests and frames',
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  const token = await target.token('mallory');
  const packets = handshakes(token).flatMap((text) => [
    ...EARLIER.map((line) => head(line) + text),
    head('GET /healthz').repeat(3) + text,
    text + jsonFrame({ type: 'ping', event: 'ping' }).toString('latin1'),
    text + text,
  ]);
  let sent = 0;
  async function send(first: number): Promise<void> {
    for (let n = first; !signal.aborted; n += AT_ONCE) {
      const client = new RawSocket(target);
      client.write(Buffer.from(packets[n % packets.length] ?? '', 'latin1'));
      await client.gone;
      if (client.text.includes('HTTP/1.1 101 '))
        throw new Error('a handshake behind other bytes was accepted');
      sent += 1;
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, (_, n) => send(n)));
  return { sent };
}

/** Every kind of handshake: a valid one, and one for each way in which it is refused. */
function handshakes(token: string): string[] {
  const valid = handshake(CHANNEL, { token });
  return [
    valid,
    valid.replace(/^Sec-WebSocket-Key:.*\r\n/m, ''),
    valid.replace('/ws?', '/wss?'),
    valid.replace('GET', 'POST'),
    valid.replace('HTTP/1.1', 'HTTP/1.0'),
    head('CONNECT 127.0.0.1:80'),
    handshake(CHANNEL),
    handshake(CHANNEL, { token: 'bad' }),
    handshake('%zz', { token }),
    handshake(CHANNEL, { token, headers: { Origin: 'https://elsewhere.example' } }),
    handshake(CHANNEL, { token, headers: { 'Sec-WebSocket-Protocol': 'a, a' } }),
  ];
}
