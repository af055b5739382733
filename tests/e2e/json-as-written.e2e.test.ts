import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { compact, numberText, objectText, valueText } from '../support/json-arbitraries.js';
import { sql } from '../support/postgres-database.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const NUMBERS = '[1152921506151679042,1E400,-0,1.0,1e2,0.1000,123456789012345678901234567890.5]';

let server: TestServer;
beforeAll(async () => {
  server = await startRowChangeServer({ REALTIME_MESSAGE_RATE: '100000/s' });
});
afterAll(() => server.stop());

/** Joins a channel and returns the client, its messages as text, and how to get the text of its next payload. */
async function joined(channel: string, user = 'ada', query = '') {
  const client = await join(server, channel, user, { query });
  const { texts } = client;
  /** Returns the text of the payload of the next message of this type and event. */
  const nextPayload = async (type: string, event: string): Promise<string> => {
    await client.next(type, event);
    const text = texts.findLast((one) => one.includes(`"type":"${type}","event":"${event}"`)) ?? '';
    return text.slice(text.indexOf('"payload":') + '"payload":'.length, text.lastIndexOf(',"user_id":'));
  };
  return { client, nextPayload, texts };
}

const post = async (path: string, body: string, user = 'bob') =>
  server.call('POST', `/realtime/channels/${path}`, { token: await server.token(user), body });

describe('a payload reaches the members as it was written', () => {
  test('from a socket', async () => {
    const { client, nextPayload } = await joined('socket');
    await fc.assert(
      fc.asyncProperty(valueText, async (payload) => {
        client.send(`{"type":"broadcast","payload":0,"event":"e","pay\\u006coad":${payload}}`);
        expect(await nextPayload('message', 'e')).toBe(compact(payload));
      }),
      { numRuns: 100 },
    );
    await client.close();
  });

  test('from HTTP', async () => {
    const { client, nextPayload } = await joined('http');
    await fc.assert(
      fc.asyncProperty(valueText, async (payload) => {
        const answer = await post('http/broadcast', `{"event":"e","payload":0,"payload":${payload}}`);
        expect(answer.status).toBe(200);
        expect(await nextPayload('message', 'e')).toBe(compact(payload));
      }),
      { numRuns: 50 },
    );
    await client.close();
  });

  test('from realtime.send, with the numbers that jsonb has', async () => {
    const { client, nextPayload } = await joined('sql');
    await fc.assert(
      fc.asyncProperty(fc.array(numberText, { minLength: 1, maxLength: 5 }), async (numbers) => {
        const json = `[${numbers.join()}]`;
        const [row] = await sql<{ json: string }>(
          server.databaseUrl,
          `SELECT '${json}'::jsonb::text AS json, realtime.send('sql', 'e', '${json}')`,
        );
        expect(await nextPayload('message', 'e')).toBe(compact(row?.json ?? ''));
      }),
      { numRuns: 30 },
    );
    await client.close();
  });

  test('as {} if it is missing', async () => {
    const { client, nextPayload } = await joined('missing');
    client.send('{"type":"broadcast","event":"e"}');
    expect(await nextPayload('message', 'e')).toBe('{}');
    await post('missing/broadcast', '{"event":"h"}');
    expect(await nextPayload('message', 'h')).toBe('{}');
    await client.close();
  });
});

describe('a presence state is kept as it was written', () => {
  test('value by value, merged by key, whether it comes from a socket or from HTTP', async () => {
    const { client: watcher, nextPayload } = await joined('room', 'watcher');
    const ada = await join(server, 'room', 'ada');
    ada.send(`{"type":"presence","event":"update","payload":{"state":{"a":1,"n":${NUMBERS},"gone":7}}}`);
    const lastSeen = '"last_seen":"[^"]+"';
    expect(await nextPayload('presence', 'update')).toMatch(
      new RegExp(
        `^{"user_id":"ada","state":{"status":"online","a":1,"n":${literal(NUMBERS)},"gone":7,${lastSeen}}}$`,
      ),
    );
    await post('room/presence', '{"state":{"a":1.0,"g\\u006fne":null,"last_seen":5,"__proto__":1E2}}', 'ada');
    const state = `{"status":"online","a":1.0,"n":${NUMBERS},"__proto__":1E2,`;
    expect(await nextPayload('presence', 'update')).toContain(`"state":${state}"last_seen":"`);

    const token = await server.token('reader');
    for (const path of ['/realtime/channels/room/presence', '/realtime/channels/room'])
      expect((await server.call('GET', path, { token })).text).toContain(`"ada":${state}`);
    const diff = await join(server, 'room', 'differ', { query: 'presence=diff' });
    expect(diff.texts[0]).toContain(`"ada":${state}`);
    const late = await joined('room', 'late');
    await eventually(() => expect(late.texts.join()).toContain(`"user_id":"ada","state":${state}`));

    await ada.close();
    expect(await nextPayload('presence', 'leave')).toContain(
      `"state":{"status":"offline","a":1.0,"n":${NUMBERS},"__proto__":1E2,`,
    );
    for (const client of [watcher, diff, late.client]) await client.close();
  });

  test('in a diff', async () => {
    const { client, nextPayload } = await joined('differences', 'ada', 'presence=diff');
    client.send(`{"type":"presence","event":"update","payload":{"state":{"n":${NUMBERS}}}}`);
    // The first diff may be the join.
    await eventually(async () => expect(await nextPayload('presence', 'diff')).toContain(`"n":${NUMBERS}`));
    await client.close();
  });

  test('for any state', async () => {
    const { client, nextPayload } = await joined('any', 'ada');
    let last = new Map<string, string>([['status', '"online"']]);
    await fc.assert(
      fc.asyncProperty(
        objectText('"status"', '"a"', '"\\u0061"', '"__proto__"'),
        async ({ text, members }) => {
          const patch = new Map(members.map(([key, value]) => [JSON.parse(key) as string, compact(value)]));
          const merged = new Map(
            [...last, ...patch].filter(([key, value]) => value !== 'null' && key !== 'last_seen'),
          );
          client.send(`{"type":"presence","event":"update","payload":{"state":${text}}}`);
          const payload = await nextPayload('presence', 'update');
          for (const [key, value] of merged) expect(payload).toContain(`${JSON.stringify(key)}:${value},`);
          client.send({ type: 'presence', event: 'update', payload: { state: nulls(merged.keys()) } });
          await nextPayload('presence', 'update');
          last = new Map();
        },
      ),
      { numRuns: 50 },
    );
    await client.close();
  });

  test('may have 8192 bytes and no more, counted as they were written', async () => {
    const client = await join(server, 'sizes', 'ada');
    const update = (zeros: number) =>
      client.send(
        `{"type":"presence","event":"update","ref":"u","payload":{"state":{"status":null,"n":1.${'0'.repeat(zeros)}}}}`,
      );
    update(8192 - '{"n":1.}'.length);
    await client.next('reply', 'ok');
    update(8193 - '{"n":1.}'.length);
    expect((await client.next('reply', 'error')).payload).toMatchObject({ code: 'MESSAGE_TOO_LARGE' });
    await client.close();
  });
});

test('the metadata of a channel are answered as they were written', async () => {
  const token = await server.token('root', 'admin');
  const body = `{"name":"described","metadata":{"n":${NUMBERS},"__proto__":1.0}}`;
  const answer = await server.call('POST', '/realtime/channels', { token, body });
  expect([answer.status, answer.text]).toEqual([
    201,
    expect.stringContaining(`"metadata":{"n":${NUMBERS},"__proto__":1.0}`),
  ]);
});

test.each(['0', '1152921506151679042', '9007199254740993', '1.0', '1e2', '"\\u00e9"', '"1"'])(
  'the ref %s is echoed as it was written',
  async (ref) => {
    const { client, texts } = await joined('refs');
    client.send(`{"type":"ping","event":"ping","ref":${ref}}`);
    await client.next('reply', 'ok');
    client.send(`{"type":"nope","event":"ping","ref":${ref}}`);
    await client.next('reply', 'error');
    expect(texts.filter((text) => text.endsWith(`,"ref":${ref}}`))).toHaveLength(2);
    await client.close();
  },
);

test.each(['1E400', '-1', '1.5', `1.${'0'.repeat(64)}`])('the ref %s is refused', async (ref) => {
  const client = await join(server, 'refs', 'ada');
  client.send(`{"type":"ping","event":"ping","ref":${ref}}`);
  expect((await client.next('system', 'error')).payload).toMatchObject({
    code: 'VALIDATION_FAILED',
    field: 'ref',
  });
  await client.close();
});

function nulls(keys: Iterable<string>): object {
  return Object.fromEntries([...keys].map((key) => [key, null]));
}

function literal(text: string): string {
  return text.replaceAll(/[.[\]]/g, '\\$&');
}
