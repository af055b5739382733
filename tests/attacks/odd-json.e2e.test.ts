import { eventually } from '../support/eventually.js';
import { join, type TestClient } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { CHANNEL, type Target } from './support/target.js';

/** Nearly REALTIME_MAX_MESSAGE_SIZE, with room for the envelope. */
const BYTES = 64_000;
const repeated = (text: string, end = '') =>
  text.repeat(Math.floor((BYTES - end.length) / text.length)) + end;

const NUMBERS = '[1152921506151679042,1E400,-0,1e-400]';
/** JSON texts that are hard to read, to print or to hold. */
const ODD = [
  `${'['.repeat(BYTES / 2)}${']'.repeat(BYTES / 2)}`,
  repeated('{"a":'),
  `${'['.repeat(63)}${']'.repeat(63)}`,
  repeated('1'),
  `1E${repeated('9')}`,
  `0.${repeated('0', '1')}`,
  NUMBERS,
  `{${repeated('"k":1,', '"k":2')}}`,
  `{${Array.from({ length: 5_000 }, (_, n) => `"key${n}":0`).join()}}`,
  `{${Array.from({ length: 2_000 }, (_, n) => `"\\u006b${n}":"\\ud800"`).join()}}`,
  `[${repeated('1,\n', '1')}]`,
  `"${repeated('\\\\')}"`,
  `"${repeated('\\"')}"`,
  `"${repeated('[{')}"`,
  '{"__proto__":{"isAdmin":true},"constructor":{"prototype":{}},"toJSON":1}',
];
const REFS = ['1E400', '1152921506151679042', `1.${'0'.repeat(1_000)}`, '-0', '"\\ud800"', '{"a":1}'];

attackTest({
  name: 'odd-json',
  what: 'two users send JSON that is deep, long or full of keys, digits and escapes as payloads, presence states and refs, over sockets and HTTP',
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  await requireUnchanged(target);
  const [sent, requests] = await Promise.all([overSocket(target, signal), overHttp(target, signal)]);
  return { sent, requests };
}

/** Throws if a valid payload is changed on its way, or one that is not UTF-8 is accepted. */
async function requireUnchanged(target: Target): Promise<void> {
  const client = await join(target, 'cellar', 'mallory');
  client.send(`{"type":"message","event":"exact","ref":1152921506151679042,"payload":${NUMBERS}}`);
  await client.next('reply');
  const texts = client.texts.join();
  if (!texts.includes(`"payload":${NUMBERS}`) || !texts.includes('"ref":1152921506151679042'))
    throw new Error(`numbers were changed: ${texts}`);
  client.socket.terminate();
  await client.closed;
  const headers = {
    authorization: `Bearer ${await target.token('mallory')}`,
    'content-type': 'application/json',
  };
  const body = Buffer.from('{"event":"odd","payload":"\xff"}', 'latin1');
  const path = `${target.url}/realtime/channels/${CHANNEL}/broadcast`;
  const { status } = await fetch(path, { method: 'POST', headers, body });
  if (status !== 400) throw new Error(`a body that is not UTF-8 was answered with ${status}`);
}

async function overSocket(target: Target, signal: AbortSignal): Promise<number> {
  const token = await target.token('mallory');
  let sent = 0;
  for (let round = 0; !signal.aborted; round++) {
    // Too many errors end a connection: the next round has another.
    const client = await join(target, 'cellar', 'mallory', { token });
    for (const odd of ODD) {
      const ref = REFS[round % REFS.length] ?? '0';
      client.send(`{"type":"message","payload":0,"event":"odd","ref":${ref},"pay\\u006coad":${odd}}`);
      client.send(`{"type":"presence","event":"update","payload":{"state":{"odd":${odd}}}}`);
      client.send(`{"type":"subscribe","event":"database_changes","payload":${odd}}`);
      client.send(`{"type":"auth","event":"refresh","payload":${odd}}`);
      sent += 4;
      await written(client);
      if (signal.aborted) break;
    }
    client.socket.terminate();
    await client.closed;
  }
  return sent;
}

async function written(client: TestClient): Promise<void> {
  await eventually(() => {
    if (client.socket.bufferedAmount > 0) throw new Error('not sent yet');
  }).catch(() => undefined);
}

async function overHttp(target: Target, signal: AbortSignal): Promise<number> {
  const token = await target.token('trudy');
  let requests = 0;
  while (!signal.aborted)
    for (const odd of ODD) {
      const path = '/realtime/channels/cellar';
      const answers = [
        await target.call('POST', `${path}/broadcast`, { token, body: `{"event":"odd","payload":${odd}}` }),
        await target.call('POST', `${path}/presence`, { token, body: `{"state":{"odd":${odd}}}` }),
        await target.call('GET', `${path}/presence`, { token }),
      ];
      requests += answers.length;
      const failed = answers.find(({ status }) => status >= 500);
      if (failed !== undefined) throw new Error(`the answer was ${failed.status}: ${failed.text}`);
      if (signal.aborted) break;
    }
  return requests;
}
