import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../support/test-server.js';

const MAX_BYTES = 2048;

let server: TestServer;
let token: string;
beforeAll(async () => {
  server = await startTestServer({ REALTIME_MAX_MESSAGE_SIZE: String(MAX_BYTES) });
  token = await server.token('root', 'admin');
  await server.call('POST', '/realtime/channels', { token, body: { name: 'room' } });
});
afterAll(() => server.stop());

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  server.call('POST', path, { token, body, headers });

const CREATE = '/realtime/channels';
const BROADCAST = '/realtime/channels/room/broadcast';
const PRESENCE = '/realtime/channels/room/presence';

const nested = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;

describe('a wrong method', () => {
  const PATHS: readonly [path: string, allow: string][] = [
    ['/realtime/channels', 'GET, HEAD, POST'],
    ['/realtime/channels/room', 'DELETE, GET, HEAD'],
    [BROADCAST, 'POST'],
    [PRESENCE, 'GET, HEAD, POST'],
    ['/realtime/channels/room/stats', 'GET, HEAD'],
    ['/realtime/channels/room/ws', 'GET, HEAD'],
    ['/realtime/stats', 'GET, HEAD'],
    ['/metrics', 'GET, HEAD'],
    ['/healthz', 'GET, HEAD'],
    ['/readyz', 'GET, HEAD'],
    ['/openapi.json', 'GET, HEAD'],
    ['/docs', 'GET, HEAD'],
    ['/', 'GET, HEAD'],
    ['/test_websocket.html', 'GET, HEAD'],
  ];
  const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];

  test.each(PATHS)('on %s gets 405 and the allowed methods %s', async (path, allow) => {
    const wrong = METHODS.filter((method) => !allow.split(', ').includes(method));
    for (const method of wrong) {
      const answer = await server.call(method, path, { token });
      expect(answer.status).toBe(405);
      expect(answer.body).toEqual({ error: 'method not allowed', code: 'METHOD_NOT_ALLOWED' });
      expect(answer.headers.get('allow')?.split(', ').sort().join(', ')).toBe(allow);
    }
  });

  test('gets 405 without a token and with any body', async () => {
    const answer = await server.call('PUT', CREATE, {
      body: '<xml/>',
      headers: { 'content-type': 'text/xml' },
    });
    expect(answer.status).toBe(405);
  });
});

test.each([
  '/nothing',
  '/realtime',
  '/realtime/ws',
  '/realtime/channels/room/nothing',
  '/realtime/channels/room/history',
  '/page/../package.json',
  '/docs/static/nothing.js',
])('the unknown path %s gets 404 and the error object', async (path) => {
  for (const method of ['GET', 'POST', 'DELETE']) {
    const answer = await server.call(method, path, { token });
    expect(answer.status).toBe(404);
    expect(answer.body).toEqual({ error: 'not found', code: 'NOT_FOUND' });
  }
});

test.each(['/%zz', '/realtime/channels/%', '/realtime/channels/%ff/stats'])(
  'the path %s, which is not a valid URL, gets 400 and the error object',
  async (path) => {
    const answer = await server.call('GET', path, { token });
    expect(answer.status).toBe(400);
    expect(answer.body.code).toBe('VALIDATION_FAILED');
    expect(Object.keys(answer.body)).toEqual(['error', 'code', 'details', 'field']);
  },
);

const FIELDS: readonly [path: string, body: unknown, field: string][] = [
  [CREATE, {}, 'name'],
  [CREATE, { name: 5 }, 'name'],
  [CREATE, { name: 'a', colour: 1 }, 'colour'],
  [CREATE, { name: 'a', max_subscribers: '5' }, 'max_subscribers'],
  [CREATE, { name: 'a', max_subscribers: 0 }, 'max_subscribers'],
  [CREATE, { name: 'a', max_subscribers: 1.5 }, 'max_subscribers'],
  [CREATE, { name: 'a', max_subscribers: null }, 'max_subscribers'],
  [CREATE, { name: 'a', require_auth: 'true' }, 'require_auth'],
  [CREATE, { name: 'a', require_auth: 1 }, 'require_auth'],
  [CREATE, { name: 'a', permissions: [] }, 'permissions'],
  [CREATE, { name: 'a', permissions: { reed: [] } }, 'permissions.reed'],
  [CREATE, { name: 'a', permissions: { read: 'user' } }, 'permissions.read'],
  [CREATE, { name: 'a', permissions: { write: ['user', 7] } }, 'permissions.write.1'],
  [CREATE, { name: 'a', permissions: { admin: [''] } }, 'permissions.admin.0'],
  [CREATE, { name: 'a', permissions: { max_message_size: '1' } }, 'permissions.max_message_size'],
  [CREATE, { name: 'a', permissions: { max_message_size: 0 } }, 'permissions.max_message_size'],
  [CREATE, { name: 'a', permissions: { rate_limit: 0 } }, 'permissions.rate_limit'],
  [CREATE, { name: 'a', permissions: { rate_limit: true } }, 'permissions.rate_limit'],
  [CREATE, { name: 'a', metadata: 'text' }, 'metadata'],
  [CREATE, { name: 'a', metadata: [] }, 'metadata'],
  [CREATE, [], 'body'],
  [CREATE, 'null', 'body'],
  [CREATE, '"text"', 'body'],
  [CREATE, '5', 'body'],
  [BROADCAST, {}, 'event'],
  [BROADCAST, { event: '' }, 'event'],
  [BROADCAST, { event: 5 }, 'event'],
  [BROADCAST, { event: 'e'.repeat(201) }, 'event'],
  [BROADCAST, { event: 'e', type: 'system' }, 'type'],
  [BROADCAST, { event: 'e', type: 'presence' }, 'type'],
  [BROADCAST, { event: 'e', type: 'database_change' }, 'type'],
  [BROADCAST, { event: 'e', type: 5 }, 'type'],
  [BROADCAST, { event: 'e', user_id: 'forged' }, 'user_id'],
  [PRESENCE, {}, 'state'],
  [PRESENCE, { state: [] }, 'state'],
  [PRESENCE, { state: 'busy' }, 'state'],
  [PRESENCE, { state: null }, 'state'],
  [PRESENCE, { state: {}, user_id: 'other' }, 'user_id'],
  [CREATE, '{"name":"a","__proto__":{"max_subscribers":1}}', '__proto__'],
  [CREATE, '{"name":"a","permissions":{"__proto__":{"read":[]}}}', 'permissions.__proto__'],
  [BROADCAST, '{"event":"e","constructor":1}', 'constructor'],
];

test.each(FIELDS)('POST %s with %j gets 400, which names the field %s', async (path, body, field) => {
  const answer = await post(path, body);
  expect(answer.status).toBe(400);
  expect(answer.body).toEqual({
    error: 'validation failed',
    code: 'VALIDATION_FAILED',
    details: expect.stringMatching(`^${field.replaceAll('.', '\\.')}: `),
    field,
  });
});

test('an empty body counts as {}, which only lacks the required fields', async () => {
  for (const headers of [{ 'content-type': 'application/json' }, {}] as const) {
    const answer = await server.call('POST', PRESENCE, { token, headers });
    expect(answer.body).toMatchObject({ code: 'VALIDATION_FAILED', field: 'state' });
  }
});

test.each(['{', '{"a":1,}', "{'a':1}", '\u0000', '{"event":"e"} {}'])(
  'the body %j gets 400, because it is not JSON',
  async (body) => {
    const answer = await post(BROADCAST, body);
    expect(answer.status).toBe(400);
    expect(answer.body).toEqual({ error: 'invalid JSON', code: 'INVALID_JSON', details: 'not valid JSON' });
  },
);

test.each([
  ['a byte that UTF-8 never has', [0xff]],
  ['a cut character', [0xc3]],
  ['an overlong character', [0xc0, 0xaf]],
  ['a surrogate', [0xed, 0xa0, 0x80]],
  ['a character beyond Unicode', [0xf4, 0x90, 0x80, 0x80]],
])('a body with %s gets 400, because it is not UTF-8', async (_, bytes) => {
  const body = Buffer.concat([
    Buffer.from('{"event":"e","payload":"'),
    Buffer.from(bytes),
    Buffer.from('"}'),
  ]);
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  for (const path of [BROADCAST, PRESENCE, CREATE]) {
    const answer = await fetch(server.url + path, { method: 'POST', headers, body });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ code: 'INVALID_JSON', details: 'not valid UTF-8' });
  }
});

test('a body with a byte order mark gets 400', async () => {
  const answer = await post(BROADCAST, '\uFEFF{"event":"e"}');
  expect([answer.status, answer.body.code]).toEqual([400, 'INVALID_JSON']);
});

test('JSON with 64 levels is accepted and with 65 refused; brackets in a string do not count', async () => {
  const body = (payload: string) => `{"event":"deep","payload":${payload}}`;
  expect((await post(BROADCAST, body(nested(63)))).status).toBe(200);
  expect((await post(BROADCAST, body(`"${'['.repeat(200)}"`))).status).toBe(200);
  const refused = await post(BROADCAST, body(nested(64)));
  expect(refused.status).toBe(400);
  expect(refused.body).toEqual({
    error: 'invalid JSON',
    code: 'INVALID_JSON',
    details: 'nested deeper than 64 levels',
  });
});

test.each(['text/plain', 'application/x-www-form-urlencoded', 'application/jsonx', 'nonsense'])(
  'a body of the content type %s is refused',
  async (type) => {
    const answer = await post(BROADCAST, '{"event":"e"}', { 'content-type': type });
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: 'VALIDATION_FAILED', field: 'content-type' });
  },
);

test.each(['application/json; charset=utf-8', 'Application/JSON'])(
  'a body of the content type %s is accepted',
  async (type) => {
    expect((await post(BROADCAST, '{"event":"e"}', { 'content-type': type })).status).toBe(200);
  },
);

test('a body over the limit gets 413 and the limit; a body of exactly that size is accepted', async () => {
  const sized = (bytes: number) => `{"event":"e","payload":"${'x'.repeat(bytes - 26)}"}`;
  expect((await post(BROADCAST, sized(MAX_BYTES))).status).toBe(200);
  const refused = await post(BROADCAST, sized(MAX_BYTES + 1));
  expect(refused.status).toBe(413);
  expect(refused.body).toEqual({
    error: 'message too large',
    code: 'MESSAGE_TOO_LARGE',
    max_bytes: MAX_BYTES,
  });
});

test('HEAD is answered like GET, without the body', async () => {
  for (const [path, status] of [
    ['/realtime/channels/room', 200],
    ['/healthz', 200],
    ['/', 200],
    ['/realtime/channels/nowhere', 404],
  ] as const) {
    const [head, get] = [
      await server.call('HEAD', path, { token }),
      await server.call('GET', path, { token }),
    ];
    expect([head.status, head.text]).toEqual([status, '']);
    expect(head.headers.get('content-type')).toBe(get.headers.get('content-type'));
  }
  expect((await server.call('HEAD', '/realtime/channels/room')).status).toBe(401);
});

test.each([
  ['/realtime/channels', 200, 'application/json; charset=utf-8'],
  ['/nothing', 404, 'application/json; charset=utf-8'],
  ['/metrics', 200, 'text/plain; version=0.0.4; charset=utf-8'],
  ['/', 200, 'text/html; charset=utf-8'],
])('%s is answered with %i and the content type %s', async (path, status, type) => {
  const answer = await server.call('GET', path, { token });
  expect([answer.status, answer.headers.get('content-type')]).toEqual([status, type]);
});
