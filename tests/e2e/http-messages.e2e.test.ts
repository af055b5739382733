import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
let token: string;
beforeAll(async () => {
  server = await startTestServer({ REALTIME_MESSAGE_RATE: '1/s, burst 6' });
  admin = await server.token('root', 'admin');
  token = await server.token('user123');
});
afterAll(() => server.stop());

const broadcast = (channel: string, body: unknown, as = token) =>
  server.call('POST', `/realtime/channels/${channel}/broadcast`, { token: as, body });

/** Creates a channel and returns its name. */
async function createChannel(name: string, permissions: object = {}): Promise<string> {
  const created = await server.call('POST', '/realtime/channels', {
    token: admin,
    body: { name, permissions },
  });
  expect(created.status).toBe(201);
  return name;
}

test('a broadcast gets 404 if the channel is deleted while the body arrives', async () => {
  const name = await createChannel('going');
  const path = `/realtime/channels/${name}/broadcast`;
  const body = JSON.stringify({ event: 'late', payload: {} });
  const headers = {
    authorization: `Bearer ${await server.token('late')}`,
    'content-type': 'application/json',
    'content-length': body.length,
    expect: '100-continue',
  };
  const posting = request(server.url + path, { method: 'POST', headers });
  posting.flushHeaders();
  await once(posting, 'continue');
  expect((await server.call('DELETE', `/realtime/channels/${name}`, { token: admin })).status).toBe(200);
  posting.end(body);
  const [response] = (await once(posting, 'response')) as [IncomingMessage];
  response.resume();
  expect(response.statusCode).toBe(404);
});

const ANNOUNCEMENT = {
  type: 'message',
  event: 'announcement',
  payload: {
    title: 'System Maintenance',
    message: 'The system will be down for maintenance at 2 AM UTC',
    priority: 'high',
    expires_at: '2025-01-16T02:00:00Z',
  },
};

test("the specification's broadcast reaches every member unchanged, with the id of the response", async () => {
  const name = await createChannel('announcements');
  const members = [await join(server, name, 'user123'), await join(server, name, 'user456')];
  const answer = await broadcast(name, ANNOUNCEMENT);
  expect(answer.status).toBe(200);
  expect(answer.body).toEqual({
    message: 'message broadcasted successfully',
    id: expect.stringMatching(/^msg_\d{13}_[a-z0-9]+$/),
  });
  for (const member of members) {
    expect(await member.next('message')).toEqual({
      ...ANNOUNCEMENT,
      id: answer.body.id,
      user_id: 'user123',
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    });
    await member.close();
  }
});

test.each([
  ['message', { type: 'message' }],
  ['broadcast', { type: 'broadcast' }],
  ['message', {}],
])('members receive a message of the type %s for a body with %j', async (type, posted) => {
  const name = await createChannel(`type-${JSON.stringify(posted).replaceAll(/\W/g, '')}`);
  const as = await server.token(`poster-${name}`);
  const member = await join(server, name, 'reader');
  await broadcast(name, { ...posted, event: 'x' }, as);
  expect((await member.next(type, 'x')).payload).toEqual({});
  await member.close();
});

test.each([
  ['null', null],
  ['false', false],
  ['a number', 0.1],
  ['text with special characters', '\u0000\ud800 \u2028 </script> \u{1f600}'],
  ['a list', [1, [2], {}]],
  [
    'an object with the key __proto__',
    JSON.parse('{"__proto__":{"polluted":true},"constructor":1}') as unknown,
  ],
])('a payload may be %s and arrives unchanged', async (what, payload) => {
  const name = await createChannel(`payload-${what.replaceAll(/\W+/g, '-')}`);
  const as = await server.token(`poster-${name}`);
  const member = await join(server, name, 'reader');
  await broadcast(name, { event: 'x', payload }, as);
  expect(JSON.stringify((await member.next('message', 'x')).payload)).toBe(JSON.stringify(payload));
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  await member.close();
});

test('a broadcast to a channel without members succeeds', async () => {
  expect((await broadcast(await createChannel('empty'), { event: 'x' }, admin)).status).toBe(200);
});

describe('the limits of a channel', () => {
  test('max_message_size limits the bytes of the body, and the error names the limit', async () => {
    const name = await createChannel('small', { max_message_size: 100 });
    const as = await server.token('sizer');
    const sized = (bytes: number) => `{"event":"e","payload":"\u00e9${'x'.repeat(bytes - 28)}"}`;
    expect(Buffer.byteLength(sized(100))).toBe(100);
    expect((await broadcast(name, sized(100), as)).status).toBe(200);
    const refused = await broadcast(name, sized(101), as);
    expect(refused.status).toBe(413);
    expect(refused.body).toEqual({ error: 'message too large', code: 'MESSAGE_TOO_LARGE', max_bytes: 100 });
  });

  test('rate_limit counts per user, and body and header say when to retry', async () => {
    const name = await createChannel('slow', { rate_limit: 0.1 });
    const [one, other] = [await server.token('one'), await server.token('other')];
    expect((await broadcast(name, { event: 'x' }, one)).status).toBe(200);
    const refused = await broadcast(name, { event: 'x' }, one);
    expect(refused.status).toBe(429);
    expect(refused.body).toEqual({
      error: 'rate limit exceeded',
      code: 'RATE_LIMIT_EXCEEDED',
      retry_after: expect.toSatisfy((seconds: number) => seconds === 9 || seconds === 10),
    });
    expect(refused.headers.get('retry-after')).toBe(String(refused.body.retry_after));
    expect((await broadcast(name, { event: 'x' }, other)).status).toBe(200);
    expect((await broadcast(await createChannel('other-channel'), { event: 'x' }, one)).status).toBe(200);
  });

  test('rate_limit counts WebSocket messages, HTTP messages and presence updates together', async () => {
    const name = await createChannel('shared-limit', { rate_limit: 3 });
    const as = await server.token('mixer');
    const client = await join(server, name, 'mixer');
    client.send({ type: 'broadcast', event: 'x', ref: 1 });
    expect((await client.next('reply')).event).toBe('ok');
    expect((await broadcast(name, { event: 'x' }, as)).status).toBe(200);
    const updated = await server.call('POST', `/realtime/channels/${name}/presence`, {
      token: as,
      body: { state: {} },
    });
    expect(updated.status).toBe(200);
    client.send({ type: 'broadcast', event: 'x', ref: 2 });
    expect((await client.next('reply')).payload).toMatchObject({
      code: 'RATE_LIMIT_EXCEEDED',
      retry_after: 1,
    });
    expect((await broadcast(name, { event: 'x' }, as)).status).toBe(429);
    await client.close();
  });
});

test("a user's message rate is shared by all channels, WebSocket and HTTP", async () => {
  const [first, second] = [await createChannel('rate-1'), await createChannel('rate-2')];
  const as = await server.token('busy');
  const client = await join(server, first, 'busy');
  for (let ref = 0; ref < 4; ref++) client.send({ type: 'broadcast', event: 'x', ref });
  for (let ref = 0; ref < 4; ref++) expect((await client.next('reply')).event).toBe('ok');
  expect((await broadcast(first, { event: 'x' }, as)).status).toBe(200);
  expect((await broadcast(second, { event: 'x' }, as)).status).toBe(200);
  const refused = await broadcast(second, { event: 'x' }, as);
  expect(refused.status).toBe(429);
  expect(refused.body).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', retry_after: 1 });
  expect(refused.headers.get('retry-after')).toBe('1');
  client.send({ type: 'ping', event: 'ping', ref: 'late' });
  expect((await client.next('reply')).payload.code).toBe('RATE_LIMIT_EXCEEDED');
  await client.close();
});
