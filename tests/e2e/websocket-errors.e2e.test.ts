import { CLOSE, LIMITS } from '@goforward/realtime-protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientCloseFrame, clientFrame, jsonFrame, OPCODE } from '../support/client-frame.js';
import { RawWebSocket } from '../support/raw-socket.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const MAX_BYTES = 4096;
let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer({
    REALTIME_MAX_MESSAGE_SIZE: String(MAX_BYTES),
    REALTIME_CONNECTION_RATE: '1000/s, burst 1000',
  });
  admin = await server.token('root', 'admin');
});
afterAll(() => server.stop());

async function createChannel(name: string, config: object): Promise<void> {
  const answer = await server.call('POST', '/realtime/channels', { token: admin, body: { name, ...config } });
  expect(answer.status).toBe(201);
}

describe('an invalid message', () => {
  const message = (parts: object) => JSON.stringify({ type: 'message', event: 'x', payload: {}, ...parts });
  const nested = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
  const REFUSED: [string, string | Buffer, object][] = [
    ['broken JSON', '{"type":', { code: 'INVALID_JSON', details: 'not valid JSON' }],
    ['an empty frame', '', { code: 'INVALID_JSON' }],
    ['a binary frame', Buffer.from(message({})), { code: 'INVALID_JSON' }],
    ['JSON of 65 levels', message({ payload: 0 }).replace('0', nested(64)), { code: 'INVALID_JSON' }],
    ['an array', '[]', { code: 'VALIDATION_FAILED', field: 'message' }],
    ['null', 'null', { code: 'VALIDATION_FAILED', field: 'message' }],
    ['a string', '"ping"', { code: 'VALIDATION_FAILED', field: 'message' }],
    ['no type', '{"event":"x"}', { code: 'VALIDATION_FAILED', field: 'type' }],
    ['no event', '{"type":"message"}', { code: 'VALIDATION_FAILED', field: 'event' }],
    ['a number as type', message({ type: 1 }), { code: 'VALIDATION_FAILED', field: 'type' }],
    ['an empty event', message({ event: '' }), { code: 'VALIDATION_FAILED', field: 'event' }],
    ['an event of 201 characters', message({ event: 'e'.repeat(201) }), { field: 'event' }],
    ['a ref that is an object', message({ ref: {} }), { code: 'VALIDATION_FAILED', field: 'ref' }],
    ['a negative ref', message({ ref: -1 }), { code: 'VALIDATION_FAILED', field: 'ref' }],
    ['a ref of 65 characters', message({ ref: 'r'.repeat(65) }), { field: 'ref' }],
    ['an unknown type', message({ type: 'shout' }), { code: 'UNKNOWN_MESSAGE_TYPE', field: 'type' }],
    ['type system', message({ type: 'system' }), { code: 'UNKNOWN_MESSAGE_TYPE' }],
    ['type database_change', message({ type: 'database_change' }), { code: 'UNKNOWN_MESSAGE_TYPE' }],
    ['type __proto__', message({ type: '__proto__' }), { code: 'UNKNOWN_MESSAGE_TYPE' }],
    ['an unknown presence event', message({ type: 'presence' }), { field: 'event' }],
    ['presence without a state', message({ type: 'presence', event: 'update' }), { field: 'payload' }],
    [
      'a presence state that is an array',
      message({ type: 'presence', event: 'update', payload: { state: [] } }),
      { code: 'VALIDATION_FAILED', field: 'payload' },
    ],
  ];

  test.each(REFUSED)('gets an error and the connection stays open: %s', async (_flaw, sent, expected) => {
    const client = await join(server, 'room', 'alice');
    client.send(sent);
    expect((await client.next('system', 'error')).payload).toMatchObject(expected);
    await client.settle();
    expect((await client.close()).code).toBe(CLOSE.NORMAL);
  });

  test.each([
    [JSON.stringify({ type: 5, event: 'x', ref: 'r' }), 'r'],
    [JSON.stringify({ type: 'presence', event: 'update', payload: 1, ref: 3 }), 3],
    [JSON.stringify({ type: 'nope', event: 'x', ref: 0 }), 0],
  ])('with a ref gets the error in its reply and no system/error: %s', async (sent, ref) => {
    const client = await join(server, 'room', 'alice');
    client.send(sent);
    expect(await client.next('reply', 'error')).toMatchObject({ ref });
    await client.settle();
    expect(client.all('system', 'error')).toEqual([]);
    await client.close();
  });

  test('JSON of 64 levels is accepted', async () => {
    const client = await join(server, 'room', 'alice');
    client.send(message({ payload: 0 }).replace('0', nested(63)));
    expect(JSON.stringify((await client.next('message')).payload)).toBe(nested(63));
    await client.close();
  });
});

describe('WebSocket frames', () => {
  const valid = JSON.stringify({ type: 'ping', event: 'ping' });
  const fragment = (text: string, opcode: number, fin = false) => clientFrame(text, { opcode, fin });
  const BROKEN: [string, Buffer[], number][] = [
    ['an unmasked frame', [clientFrame(valid, { masked: false })], CLOSE.PROTOCOL_ERROR],
    ...[1, 2, 4, 7].map((rsv): [string, Buffer[], number] => [
      `reserved bits ${rsv}`,
      [clientFrame(valid, { rsv })],
      CLOSE.PROTOCOL_ERROR,
    ]),
    ...[3, 7, 11, 15].map((opcode): [string, Buffer[], number] => [
      `opcode ${opcode}`,
      [clientFrame(valid, { opcode })],
      CLOSE.PROTOCOL_ERROR,
    ]),
    [
      'a continuation without a beginning',
      [fragment(valid, OPCODE.continuation, true)],
      CLOSE.PROTOCOL_ERROR,
    ],
    [
      'a text frame within a fragmented text',
      [fragment('{', OPCODE.text), fragment(valid, OPCODE.text, true)],
      CLOSE.PROTOCOL_ERROR,
    ],
    ['a fragmented ping', [fragment('', OPCODE.ping)], CLOSE.PROTOCOL_ERROR],
    ['a ping of 126 bytes', [fragment('p'.repeat(126), OPCODE.ping, true)], CLOSE.PROTOCOL_ERROR],
    ['a close frame of one byte', [fragment('x', OPCODE.close, true)], CLOSE.PROTOCOL_ERROR],
    ...[0, 999, 1004, 1005, 1006, 2999, 5000].map((code): [string, Buffer[], number] => [
      `close code ${code}`,
      [clientCloseFrame(code)],
      CLOSE.PROTOCOL_ERROR,
    ]),
    ['bad UTF-8', [clientFrame(Buffer.from([0x22, 0xc3, 0x28, 0x22]))], CLOSE.INVALID_UTF8],
    ['a surrogate in UTF-8', [clientFrame(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]))], CLOSE.INVALID_UTF8],
    ['a truncated character', [clientFrame(Buffer.from([0x22, 0xe2, 0x82]))], CLOSE.INVALID_UTF8],
    ['a message over the limit', [clientFrame('x'.repeat(MAX_BYTES + 1))], CLOSE.TOO_LARGE],
    ['a header that announces 2^40 bytes', [clientFrame('', { length: 2n ** 40n })], CLOSE.TOO_LARGE],
    ['a header that announces 2^63 bytes', [clientFrame('', { length: 2n ** 63n })], CLOSE.TOO_LARGE],
    [
      'fragments that are over the limit together',
      [fragment('x'.repeat(MAX_BYTES), OPCODE.text), fragment('x', OPCODE.continuation)],
      CLOSE.TOO_LARGE,
    ],
    [
      'endless fragments',
      Array.from({ length: 5000 }, (_, i) => fragment('', i === 0 ? OPCODE.text : OPCODE.continuation)),
      CLOSE.TOO_LARGE,
    ],
  ];

  test.each(BROKEN)('a violation closes the connection: %s', async (_flaw, frames, code) => {
    const token = await server.token('mallory');
    const client = await RawWebSocket.open(server, 'room', { token });
    await client.next('system', 'connected');
    client.write(jsonFrame({ type: 'ping', event: 'ping', ref: 'before' }), ...frames);
    expect(await client.closing()).toBe(code);
    expect(client.messages.at(-1)).toMatchObject({ type: 'reply', ref: 'before' });
    await client.gone;
  });

  test('a message of exactly the size limit is accepted', async () => {
    const client = await join(server, 'room', 'alice');
    const empty = JSON.stringify({ type: 'message', event: 'full', payload: '' });
    client.send(
      JSON.stringify({ type: 'message', event: 'full', payload: 'x'.repeat(MAX_BYTES - empty.length) }),
    );
    await client.next('message', 'full');
    await client.close();
  });

  test('fragments with pings between them are one message', async () => {
    const client = await RawWebSocket.open(server, 'room', { token: await server.token('alice') });
    const text = JSON.stringify({ type: 'message', event: 'parts', payload: { n: 1 } });
    client.write(
      fragment(text.slice(0, 10), OPCODE.text),
      fragment('between', OPCODE.ping, true),
      fragment(text.slice(10, 20), OPCODE.continuation),
      fragment('', OPCODE.continuation),
      fragment(text.slice(20), OPCODE.continuation, true),
    );
    expect((await client.next('message', 'parts')).payload.n).toBe(1);
    expect(client.pongs.map(String)).toEqual(['between']);
    client.socket.destroy();
  });
});

test(`more than ${LIMITS.errorsPerMinute} errors within a minute close the connection with 4429`, async () => {
  const client = await join(server, 'room', 'alice');
  for (let i = 0; i < LIMITS.errorsPerMinute; i++) client.send('not JSON');
  await client.settle();
  client.send('the one too many');
  const { code } = await client.closed;
  expect(code).toBe(4429);
  expect(client.all('system', 'error')).toHaveLength(LIMITS.errorsPerMinute + 1);
  const { payload } = client.received.at(-1) ?? {};
  expect(payload).toMatchObject({
    code: 'RATE_LIMIT_EXCEEDED',
    details: 'More than 100 errors within a minute',
  });
  expect(payload?.retry_after).toBeGreaterThan(50);
  expect(payload?.retry_after).toBeLessThanOrEqual(60);
});

describe("a channel's own limits and permissions", () => {
  test('a message over max_message_size gets MESSAGE_TOO_LARGE, and the connection stays open', async () => {
    await createChannel('small', { permissions: { max_message_size: 100 } });
    const client = await join(server, 'small', 'alice');
    const sized = (bytes: number) => {
      const empty = JSON.stringify({ type: 'message', event: 'e', payload: '' });
      return JSON.stringify({ type: 'message', event: 'e', payload: 'x'.repeat(bytes - empty.length) });
    };
    client.send(sized(101));
    expect((await client.next('system', 'error')).payload).toEqual({
      error: 'message too large',
      code: 'MESSAGE_TOO_LARGE',
      max_bytes: 100,
    });
    client.send(sized(100));
    await client.next('message', 'e');
    await client.close();
  });

  test('messages over rate_limit get RATE_LIMIT_EXCEEDED, counted for each user', async () => {
    await createChannel('slow', { permissions: { rate_limit: 3 } });
    const [alice, bob] = await Promise.all([join(server, 'slow', 'alice'), join(server, 'slow', 'bob')]);
    for (let n = 0; n < 4; n++) alice.send({ type: 'message', event: 'e', payload: { n } });
    expect((await alice.next('system', 'error')).payload).toEqual({
      error: 'rate limit exceeded',
      code: 'RATE_LIMIT_EXCEEDED',
      retry_after: 1,
    });
    bob.send({ type: 'message', event: 'from-bob', payload: {} });
    await alice.next('message', 'from-bob');
    expect(alice.all('message', 'e')).toHaveLength(3);
    await Promise.all([alice.close(), bob.close()]);
  });

  test('a member that may only read receives messages, and publishing is refused with the missing permission', async () => {
    await createChannel('stage', { permissions: { read: ['user', 'speaker'], write: ['speaker'] } });
    const [reader, speaker] = await Promise.all([
      join(server, 'stage', 'reader'),
      join(server, 'stage', 'speaker', { role: 'speaker' }),
    ]);
    for (const type of ['broadcast', 'message', 'presence']) {
      reader.send({ type, event: 'update', payload: { state: {} } });
      expect((await reader.next('system', 'error')).payload).toEqual({
        error: 'insufficient permissions',
        code: 'PERMISSION_DENIED',
        required_permission: 'write',
      });
    }
    speaker.send({ type: 'message', event: 'speech', payload: {} });
    expect((await reader.next('message', 'speech')).user_id).toBe('speaker');
    await Promise.all([reader.close(), speaker.close()]);
  });

  test('require_auth=false admits a client without a token as anon_<connection id>', async () => {
    await createChannel('open', { require_auth: false });
    const client = dial(server, 'open');
    const { payload } = await client.next('system', 'connected');
    expect(payload.user_id).toBe(`anon_${payload.connection_id}`);
    expect(payload).not.toHaveProperty('token_expires_at');
    client.send({ type: 'message', event: 'hello', payload: {} });
    expect((await client.next('message', 'hello')).user_id).toBe(payload.user_id);
    await client.close();
  });

  test('a permission list refuses anonymous clients unless it names their role', async () => {
    await createChannel('half-open', { require_auth: false, permissions: { write: ['user'] } });
    const client = dial(server, 'half-open');
    await client.next('system', 'connected');
    client.send({ type: 'message', event: 'hello', payload: {} });
    expect((await client.next('system', 'error')).payload.code).toBe('PERMISSION_DENIED');
    expect(client.all('presence')).toEqual([]);
    await client.close();
  });
});
