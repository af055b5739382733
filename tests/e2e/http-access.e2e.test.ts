import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Answer, startTestServer, type TestServer } from '../support/test-server.js';
import { secondsFromNow, signClaims } from '../support/tokens.js';

const SECRET = 'the secret of the access tests, long enough';
const LISTS = {
  read: ['reader', 'writer', 'keeper'],
  write: ['writer', 'keeper'],
  admin: ['keeper'],
};

let server: TestServer;
let callers: Record<string, string | undefined>;
let made = 0;

beforeAll(async () => {
  server = await startTestServer({ REALTIME_JWT_SECRET: SECRET });
  const role = (name: string) => signClaims({ sub: `${name}-user`, role: name }, SECRET);
  callers = {
    'no token': undefined,
    'a malformed token': 'rubbish',
    'a token signed with another secret': await signClaims(
      { sub: 'eve', role: 'admin' },
      'another secret, long enough too',
    ),
    'an expired token': await signClaims({ sub: 'old', role: 'admin', exp: secondsFromNow(-5) }, SECRET),
    stranger: await role('stranger'),
    reader: await role('reader'),
    writer: await role('writer'),
    'channel admin': await role('keeper'),
    'server admin': await role('admin'),
  };
});
afterAll(() => server.stop());

const ALL_WITH_TOKEN = ['stranger', 'reader', 'writer', 'channel admin', 'server admin'];
const BAD_TOKENS = [
  'no token',
  'a malformed token',
  'a token signed with another secret',
  'an expired token',
] as const;

/** For each requirement of a route: the callers that pass, and the permission that the others are missing. */
const NEEDS = {
  'a token': { pass: ALL_WITH_TOKEN, missing: undefined },
  read: { pass: ['reader', 'writer', 'channel admin', 'server admin'], missing: 'read' },
  write: { pass: ['writer', 'channel admin', 'server admin'], missing: 'write' },
  'channel admin': { pass: ['channel admin', 'server admin'], missing: 'admin' },
  'server admin': { pass: ['server admin'], missing: 'admin' },
} as const;

const ROUTES: readonly [
  method: string,
  path: string,
  needs: keyof typeof NEEDS,
  body?: object,
  status?: number,
][] = [
  ['POST', '/realtime/channels', 'server admin', { name: 'made-<n>' }, 201],
  ['GET', '/realtime/channels', 'a token'],
  ['GET', '/realtime/channels/<closed>', 'read'],
  ['GET', '/realtime/channels/<closed>/presence', 'read'],
  ['GET', '/realtime/channels/<closed>/stats', 'read'],
  ['POST', '/realtime/channels/<closed>/broadcast', 'write', { event: 'news' }],
  ['POST', '/realtime/channels/<closed>/presence', 'write', { state: {} }],
  ['DELETE', '/realtime/channels/<closed>', 'channel admin'],
  ['GET', '/realtime/stats', 'server admin'],
  ['GET', '/metrics', 'server admin'],
];

/** Calls a route as one caller, in a new channel with permission lists. */
async function callAs(caller: string, method: string, path: string, body?: object): Promise<Answer> {
  made += 1;
  const closed = `closed-${made}`;
  const admin = callers['server admin'] ?? '';
  await server.call('POST', '/realtime/channels', {
    token: admin,
    body: { name: closed, permissions: LISTS },
  });
  const token = callers[caller];
  return server.call(method, path.replace('<closed>', closed), {
    ...(token === undefined ? {} : { token }),
    ...(body === undefined ? {} : { body: JSON.stringify(body).replace('<n>', String(made)) }),
  });
}

describe.each(ROUTES)('%s %s, which needs %s,', (method, path, needs, body, status = 200) => {
  const { pass, missing } = NEEDS[needs];

  test.each(BAD_TOKENS)('answers 401 to %s', async (caller) => {
    const answer = await callAs(caller, method, path, body);
    expect(answer.status).toBe(401);
    expect(answer.body).toEqual({
      error: 'authentication failed',
      code: 'AUTH_FAILED',
      ...(caller === 'no token'
        ? { details: 'A token of a user is needed', reason: 'missing' }
        : { details: 'Invalid or expired token', reason: expect.any(String) }),
    });
  });

  test.each(ALL_WITH_TOKEN)('answers a %s according to its permission', async (caller) => {
    const answer = await callAs(caller, method, path, body);
    if ((pass as readonly string[]).includes(caller)) {
      expect(answer.status).toBe(status);
      return;
    }
    expect(answer.status).toBe(403);
    expect(answer.body).toEqual({
      error: 'insufficient permissions',
      code: 'PERMISSION_DENIED',
      required_permission: missing,
    });
  });
});

test.each(['/healthz', '/readyz', '/openapi.json', '/docs', '/', '/test_websocket.html'])(
  '%s needs no token and ignores an invalid one',
  async (path) => {
    for (const token of [undefined, 'rubbish']) {
      const answer = await server.call('GET', path, token === undefined ? {} : { token });
      expect(answer.status).toBe(200);
    }
  },
);

const IN_A_CHANNEL = ROUTES.filter(([, path]) => path.includes('<closed>'));

test.each(IN_A_CHANNEL)(
  '%s %s answers 404 for an unknown channel, after the check of the token and before that of the permission',
  async (method, path, _needs, body) => {
    const call = (caller: string) => {
      const token = callers[caller];
      return server.call(method, path.replace('<closed>', 'nowhere'), {
        ...(token === undefined ? {} : { token }),
        ...(body === undefined ? {} : { body }),
      });
    };
    expect((await call('a malformed token')).status).toBe(401);
    for (const caller of ALL_WITH_TOKEN) {
      const answer = await call(caller);
      expect(answer.status).toBe(404);
      expect(answer.body).toEqual({
        error: 'channel nowhere not found',
        code: 'CHANNEL_NOT_FOUND',
        details: 'channel nowhere not found: join it or create it with POST /realtime/channels',
      });
    }
  },
);

test('HTTP does not create a channel that it publishes to or reads', async () => {
  const token = callers['server admin'] ?? '';
  const posted = { token, body: { event: 'x' } };
  expect((await server.call('POST', '/realtime/channels/nowhere/broadcast', posted)).status).toBe(404);
  expect((await server.call('GET', '/realtime/channels/nowhere', { token })).status).toBe(404);
});

test('the permission is checked before the body is read', async () => {
  const token = callers.reader ?? '';
  const admin = callers['server admin'] ?? '';
  await server.call('POST', '/realtime/channels', {
    token: admin,
    body: { name: 'order', permissions: LISTS },
  });
  const answer = await server.call('POST', '/realtime/channels/order/broadcast', { token, body: '{broken' });
  expect(answer.body.code).toBe('PERMISSION_DENIED');
});

test.each([
  ['with a lower-case scheme is accepted', (token: string) => `bearer ${token}`, 200],
  ['with another scheme is refused', (token: string) => `Basic ${token}`, 401],
  ['without a scheme is refused', (token: string) => token, 401],
  ['with two tokens is refused', (token: string) => `Bearer ${token} ${token}`, 401],
  ['without a token is refused', () => 'Bearer ', 401],
])('an Authorization header %s', async (_what, header, status) => {
  const authorization = header(callers.stranger ?? '');
  const answer = await server.call('GET', '/realtime/channels', { headers: { authorization } });
  expect(answer.status).toBe(status);
});

test('a token in the URL of an HTTP request is ignored, because URLs end up in logs', async () => {
  const answer = await server.call('GET', `/realtime/channels?token=${callers['server admin']}`);
  expect(answer.status).toBe(401);
});
