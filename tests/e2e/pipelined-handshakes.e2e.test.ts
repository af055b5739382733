import { once } from 'node:events';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { jsonFrame } from '../support/client-frame.js';
import { Bystanders, SEED, WITHOUT_LIMITS } from '../support/hostile.js';
import { answersIn } from '../support/http-answers.js';
import { head } from '../support/raw-http.js';
import { handshake, RawSocket } from '../support/raw-socket.js';
import { RecordingLog } from '../support/recording-log.js';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const CHANNEL = 'bystanders';
/** The address whose connection rate is used up. */
const RATED = '203.0.113.1';
const log = new RecordingLog();
let server: TestServer;
let bystanders: Bystanders;
/** What each handshake is, and the statuses that it may get on a socket of its own. */
let handshakes: Record<string, { readonly text: string; readonly statuses: readonly number[] }>;

beforeAll(async () => {
  server = await startTestServer(
    {
      ...WITHOUT_LIMITS,
      REALTIME_CONNECTION_RATE: '0.001/s, burst 20',
      REALTIME_TRUSTED_PROXIES: 'loopback',
      REALTIME_MAX_CONNECTIONS_PER_USER: '1',
    },
    { log },
  );
  bystanders = await Bystanders.in(CHANNEL, server, log);
  handshakes = await everyHandshake();
});
afterAll(() => server.stop());

async function everyHandshake(): Promise<typeof handshakes> {
  const admin = await server.token('root', 'admin');
  const create = (name: string, config: object) =>
    server.call('POST', '/realtime/channels', { token: admin, body: { name, ...config } });
  await create('private', { permissions: { read: ['staff'] } });
  await create('full', { max_subscribers: 1 });
  await create('deleted', {});
  await server.call('DELETE', '/realtime/channels/deleted', { token: admin });
  await join(server, 'full', 'first');
  for (let n = 0; n < 21; n++) {
    const asked = new RawSocket(server);
    asked.write(handshake('room', { headers: { 'X-Forwarded-For': RATED, 'Sec-WebSocket-Key': 'bad' } }));
    await asked.gone;
  }
  const token = await server.token('alice');
  const valid = handshake('room', { token });
  const without = (name: string) => valid.replace(new RegExp(`^${name}:.*\r\n`, 'm'), '');
  const readable = (status: number) => [101, status];
  return {
    valid: { text: valid, statuses: [101, 429] },
    'without a key': { text: without('Sec-WebSocket-Key'), statuses: [400] },
    'without a version': { text: without('Sec-WebSocket-Version'), statuses: [400] },
    'without Host': { text: without('Host'), statuses: [400] },
    'of HTTP/1.0': { text: valid.replace('HTTP/1.1', 'HTTP/1.0'), statuses: [400] },
    'to another path': { text: valid.replace('/ws?', '/wss?'), statuses: [404] },
    'by POST': { text: valid.replace('GET', 'POST'), statuses: [405] },
    'of a foreign origin': {
      text: handshake('room', { token, headers: { Origin: 'https://elsewhere.example' } }),
      statuses: [403],
    },
    'over the connection rate': {
      text: handshake('room', { token, headers: { 'X-Forwarded-For': RATED } }),
      statuses: [429],
    },
    'with a bad sub-protocol': {
      text: handshake('room', { token, headers: { 'Sec-WebSocket-Protocol': 'a, a' } }),
      statuses: [400],
    },
    'with a bad name': { text: handshake('%zz', { token }), statuses: readable(400) },
    'with a bad option': { text: handshake('room', { token, query: 'echo=x' }), statuses: readable(400) },
    'without a token': { text: handshake('room'), statuses: readable(401) },
    'with a bad token': { text: handshake('room', { token: 'bad' }), statuses: readable(401) },
    'without permission': { text: handshake('private', { token }), statuses: readable(403) },
    'to a deleted channel': { text: handshake('deleted', { token }), statuses: readable(404) },
    'to a full channel': { text: handshake('full', { token }), statuses: readable(429) },
    'over the connection limit': {
      text: handshake('room', { token: await server.token('bystander-1') }),
      statuses: readable(429),
    },
  };
}

const REQUESTS: Record<string, { readonly text: string; readonly status: number }> = {
  'a small answer': { text: head('GET /healthz'), status: 200 },
  'a large answer': { text: head('GET /docs/static/swagger-ui-bundle.js'), status: 200 },
  'an answer that is made': { text: head('GET /openapi.json'), status: 200 },
  'a refusal': { text: head('GET /realtime/stats'), status: 401 },
  'an unknown path': { text: head('GET /nowhere'), status: 404 },
};

/**
 * When the client sends the handshake: with the earlier requests, in two parts, behind them while it reads
 * nothing yet, or once it has read their answers.
 */
const TIMES = ['together', 'in parts', 'unread', 'answered'] as const;

test(`a handshake that is refused behind other requests leaves their answers whole, and the server alive (HOSTILE_SEED=${SEED})`, async () => {
  const earlier = fc.array(fc.constantFrom(...Object.keys(REQUESTS)), { maxLength: 3 });
  const behind = fc.constantFrom('', '', '', 'frame');
  await fc.assert(
    fc.asyncProperty(
      earlier,
      fc.constantFrom(...Object.keys(handshakes)),
      fc.constantFrom(...TIMES),
      behind,
      fc.nat(1_000),
      fc.ipV4(),
      async (requests, kind, time, extra, cut, address) => {
        const known = handshakes[kind];
        if (known === undefined) throw new Error(kind);
        const { text, statuses } = known;
        const asked = text.includes('X-Forwarded-For')
          ? text
          : text.replace('\r\n', `\r\nX-Forwarded-For: ${address}\r\n`);
        const before = requests.map((name) => REQUESTS[name]?.text ?? '').join('');
        const after = extra === '' ? '' : jsonFrame({ type: 'ping', event: 'ping' }).toString('latin1');
        const answers = answersIn(await exchange({ before, handshake: asked + after, time, cut }));
        const expected = requests.map((name) => REQUESTS[name]?.status);
        expect(answers.slice(0, requests.length).map(({ status }) => status)).toEqual(expected);
        const last = answers.slice(requests.length).map(({ status }) => status);
        const isAlone = (requests.length === 0 || time === 'answered') && after === '';
        if (isAlone) expect(statuses).toContain(last[0]);
        // In two parts, the handshake can arrive behind the answers, or before what is sent behind it.
        else if (time === 'in parts') expect([undefined, ...statuses]).toContain(last[0]);
        else expect(last).toEqual([]);
        expect(log.errors).toEqual([]);
      },
    ),
    { seed: SEED, numRuns: 200 },
  );
  await bystanders.noticeNothing();
});

interface Exchange {
  readonly before: string;
  readonly handshake: string;
  readonly time: (typeof TIMES)[number];
  readonly cut: number;
}

/** Returns everything received until the server closed, or until a WebSocket was accepted and closed again. */
async function exchange({ before, handshake: last, time, cut }: Exchange): Promise<string> {
  const client = new RawSocket(server);
  await once(client.socket, 'connect');
  client.socket.setNoDelay(true);
  const whole = Buffer.from(before + last, 'latin1');
  if (time === 'together') client.write(whole);
  else if (time === 'in parts') {
    const at = cut % whole.length;
    client.write(whole.subarray(0, at));
    await turns(3);
    client.write(whole.subarray(at));
  } else if (time === 'unread') {
    client.socket.pause();
    client.write(whole);
    await turns(5);
    client.socket.resume();
  } else {
    client.write(before);
    const count = before.split(' HTTP/1.1\r\n').length - 1;
    if (count > 0) await client.until(() => isAnswered(client.text, count));
    client.write(Buffer.from(last, 'latin1'));
  }
  await client.until(() => client.isGone || /(?:^|\n|[^\n])HTTP\/1\.1 101 /.test(client.text));
  client.socket.end();
  await client.gone;
  return client.text;
}

function isAnswered(text: string, count: number): boolean {
  try {
    return answersIn(text).length === count;
  } catch {
    return false;
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}
