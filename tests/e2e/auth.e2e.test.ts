import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { secondsFromNow, signClaims } from '../support/tokens.js';

const SECRET = 'the secret of the tests of tokens, long enough';

let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer({
    REALTIME_JWT_SECRET: SECRET,
    REALTIME_ADMIN_ROLES: 'root,ops',
  });
  admin = await signClaims({ sub: 'boss', role: 'ops' }, SECRET);
  await makeChannel('editors', { permissions: { read: ['editor'] } });
  await makeChannel('users', { permissions: { read: ['user'] } });
  await makeChannel('plain', {});
});
afterAll(() => server.stop());

const CHANNELS = '/realtime/channels';

async function makeChannel(name: string, config: object): Promise<void> {
  const made = await server.call('POST', CHANNELS, { token: admin, body: { name, ...config } });
  expect(made.status).toBe(201);
}

const statusOf = async (channel: string, token: string) =>
  (await server.call('GET', `${CHANNELS}/${channel}`, { token })).status;

describe('the user of a token', () => {
  test.each([
    [{ user_id: 'ada', sub: 'other' }, 'ada'],
    [{ sub: 'ada' }, 'ada'],
    [{ user_id: null, sub: 'ada' }, 'ada'],
    [{ user_id: 'u'.repeat(255) }, 'u'.repeat(255)],
  ])('of the claims %j is %s, on the socket too', async (claims, userId) => {
    const client = await join(server, 'plain', '', { token: await signClaims(claims, SECRET) });
    expect(client.received[0]?.payload.user_id).toBe(userId);
    await client.close();
  });

  test.each([
    [{}],
    [{ sub: '' }],
    [{ user_id: 5, sub: 'ada' }],
    [{ user_id: '', sub: 'ada' }],
    [{ user_id: ['ada'] }],
    [{ sub: 'u'.repeat(256) }],
    [{ sub: 'system' }],
    [{ sub: 'a\0b' }],
    [{ role: 'service_role' }],
  ])('cannot be told from %j, so the token fails', async (claims) => {
    const token = await signClaims(claims as { sub?: string }, SECRET);
    expect(await statusOf('plain', token)).toBe(401);
    const client = dial(server, 'plain', { token });
    expect((await client.next('system', 'error')).payload).toMatchObject({
      error: 'authentication failed',
      code: 'AUTH_FAILED',
      details: 'Invalid or expired token',
      reason: 'claims',
    });
    expect((await client.closed).code).toBe(4401);
  });
});

describe('the roles of a token', () => {
  test.each([
    [{ role: 'editor' }],
    [{ roles: ['reader', 'editor'] }],
    [{ roles: 'editor' }],
    [{ app_metadata: { roles: ['editor'] } }],
    [{ role: 'authenticated', app_metadata: { provider: 'x', roles: ['editor'] } }],
    [{ role: 7, roles: [null, 'editor', {}] }],
  ])('%j name an editor', async (claims) => {
    expect(await statusOf('editors', await signClaims({ sub: 'ada', ...claims }, SECRET))).toBe(200);
  });

  test.each([
    [{ role: 'Editor' }],
    [{ role: 'editor ' }],
    [{ user_metadata: { roles: ['editor'] } }],
    [{ app_metadata: 'editor' }],
    [{ app_metadata: null, roles: { 0: 'editor' } }],
    [{ scope: 'editor' }],
  ])('%j name none', async (claims) => {
    expect(await statusOf('editors', await signClaims({ sub: 'ada', ...claims }, SECRET))).toBe(403);
  });

  test('without any, a token has the role user, and with any other it has not', async () => {
    expect(await statusOf('users', await signClaims({ sub: 'ada' }, SECRET))).toBe(200);
    expect(await statusOf('users', await signClaims({ sub: 'ada', roles: [] }, SECRET))).toBe(200);
    expect(await statusOf('users', await signClaims({ sub: 'ada', role: 'editor' }, SECRET))).toBe(403);
  });

  test.each([
    [{ role: 'root' }, 200],
    [{ roles: ['user', 'ops'] }, 200],
    [{ app_metadata: { roles: ['ops'] } }, 200],
    [{ role: 'admin' }, 403],
  ])(
    '%j of the setting REALTIME_ADMIN_ROLES are answered %i by a route of the server admin',
    async (claims, status) => {
      const token = await signClaims({ sub: 'ada', ...claims }, SECRET);
      expect((await server.call('GET', '/realtime/stats', { token })).status).toBe(status);
    },
  );
});

describe('the times of a token', () => {
  test.each([
    ['that has expired', { exp: secondsFromNow(-60) }, 401],
    ['that has expired within the clock tolerance', { exp: secondsFromNow(-1) }, 200],
    ['that is not valid yet', { nbf: secondsFromNow(60) }, 401],
    ['that was issued in the future', { iat: secondsFromNow(60) }, 401],
    ['that never ends', { exp: null }, 200],
    ['that ends after all dates', { exp: 1e15 }, 200],
    ['whose end is no number', { exp: '2030-01-01' as unknown as number }, 401],
  ])('%s are checked', async (_what, times, status) => {
    const token = await signClaims({ sub: 'ada', ...times }, SECRET);
    expect(await statusOf('plain', token)).toBe(status);
  });
});

describe('what is no token of ours', () => {
  const unsigned = (header: object) =>
    [header, { sub: 'ada', role: 'root', exp: secondsFromNow(60) }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');

  test.each([
    ['without a signature', 'algorithm', () => `${unsigned({ alg: 'none' })}.`],
    ['with a signature that is empty', 'signature', () => `${unsigned({ alg: 'HS256' })}.`],
    [
      'of another secret',
      'signature',
      () => signClaims({ sub: 'ada' }, 'another secret that is long enough'),
    ],
    [
      'with a critical header that nobody knows',
      'malformed',
      () => `${unsigned({ alg: 'HS256', crit: ['x'], x: 1 })}.AAAA`,
    ],
    ['of rubbish', 'malformed', () => 'a.b.c'],
    ['of one part', 'malformed', () => 'a'],
    ['of 10,000 characters', 'malformed', () => 'a'.repeat(10_000)],
  ])('%s fails with the same words, and the reason %s', async (_what, reason, make) => {
    const answer = await server.call('GET', `${CHANNELS}/plain`, { token: await make() });
    expect(answer.status).toBe(401);
    expect(answer.body).toEqual({
      error: 'authentication failed',
      code: 'AUTH_FAILED',
      details: 'Invalid or expired token',
      reason,
    });
    expect(answer.headers.get('www-authenticate')).toBe('Bearer');
  });
});

describe('the lists of a channel', () => {
  const call = (method: string, path: string, token: string, body?: object) =>
    server.call(method, path, { token, ...(body === undefined ? {} : { body }) });

  test('that are missing let everyone with a token read and write, and the server admin alone administer', async () => {
    await makeChannel('no-lists', {});
    const token = await signClaims({ sub: 'ada', role: 'whatever' }, SECRET);
    expect(await statusOf('no-lists', token)).toBe(200);
    expect((await call('POST', `${CHANNELS}/no-lists/broadcast`, token, { event: 'x' })).status).toBe(200);
    const refused = await call('DELETE', `${CHANNELS}/no-lists`, token);
    expect([refused.status, refused.body.required_permission]).toEqual([403, 'admin']);
    expect((await call('DELETE', `${CHANNELS}/no-lists`, admin)).status).toBe(200);
  });

  test('that are empty let nobody pass but the server admin', async () => {
    await makeChannel('empty-lists', { permissions: { read: [], write: [], admin: [] } });
    const token = await signClaims({ sub: 'ada', roles: ['user', 'admin'] }, SECRET);
    expect(await statusOf('empty-lists', token)).toBe(403);
    expect((await call('POST', `${CHANNELS}/empty-lists/broadcast`, token, { event: 'x' })).status).toBe(403);
    const client = await join(server, 'empty-lists', '', { token: admin });
    client.send({ type: 'broadcast', event: 'x', ref: 1 });
    expect((await client.next('reply')).event).toBe('ok');
    await client.close();
    expect((await call('DELETE', `${CHANNELS}/empty-lists`, admin)).status).toBe(200);
  });
});

describe('without a token', () => {
  test('a socket is let in where a channel does not require one, and its lists may name anonymous', async () => {
    await makeChannel('public', { require_auth: false });
    await makeChannel('listen-only', {
      require_auth: false,
      permissions: { read: ['anonymous'], write: ['user'] },
    });
    for (const [channel, event, presence] of [
      ['public', 'ok', 1],
      ['listen-only', 'error', 0],
    ] as const) {
      const client = dial(server, channel);
      const { payload } = await client.next('system', 'connected');
      expect(payload.user_id).toBe(`anon_${payload.connection_id}`);
      expect(payload.presence_count).toBe(presence);
      expect(payload.token_expires_at).toBeUndefined();
      client.send({ type: 'broadcast', event: 'x', ref: 1 });
      expect((await client.next('reply')).event).toBe(event);
      await client.close();
    }
  });

  test.each([
    [
      'a list does not name anonymous',
      'members-only',
      { require_auth: false, permissions: { read: ['user'] } },
      'PERMISSION_DENIED',
      4503,
    ],
    [
      'the channel requires a token',
      'closed-door',
      { permissions: { read: ['anonymous'] } },
      'AUTH_FAILED',
      4401,
    ],
    ['the channel is not there', 'not-there', undefined, 'AUTH_FAILED', 4401],
  ])('a socket is refused where %s', async (_why, name, config, code, close) => {
    if (config !== undefined) await makeChannel(name, config);
    const client = dial(server, name);
    expect((await client.next('system', 'error')).payload.code).toBe(code);
    expect((await client.closed).code).toBe(close);
  });

  test('two visitors are two users, and a token that fails does not make a visitor', async () => {
    await makeChannel('visitors', { require_auth: false });
    const [first, second] = [dial(server, 'visitors'), dial(server, 'visitors')];
    const ids = [await first.next('system', 'connected'), await second.next('system', 'connected')];
    expect(new Set(ids.map(({ payload }) => payload.user_id)).size).toBe(2);
    const failing = dial(server, 'visitors', { token: 'rubbish' });
    expect((await failing.next('system', 'error')).payload.code).toBe('AUTH_FAILED');
    await Promise.all([first.close(), second.close(), failing.closed]);
  });

  test('HTTP reads and publishes in such a channel as a user of that request, and asks for a token elsewhere', async () => {
    await makeChannel('public-http', { require_auth: false });
    expect(await overHttp('public-http', undefined)).toEqual([200, 200, 401, 401, 401]);
    expect(await overHttp('plain', undefined)).toEqual([401, 401, 401, 401, 401]);
    expect(await overHttp('not-there', undefined)).toEqual([401, 401, 401, 401, 401]);
  });
});

/** What reading, publishing, being listed, deleting and listing channels are answered with. */
async function overHttp(channel: string, token: string | undefined): Promise<number[]> {
  const statuses: number[] = [];
  for (const [method, path, body] of [
    ['GET', `/${channel}`, undefined],
    ['POST', `/${channel}/broadcast`, { event: 'x' }],
    ['POST', `/${channel}/presence`, { state: {} }],
    ['DELETE', `/${channel}`, undefined],
    ['GET', '', undefined],
  ] as const) {
    const answer = await server.call(method, `${CHANNELS}${path}`, {
      ...(token === undefined ? {} : { token }),
      ...(body === undefined ? {} : { body }),
    });
    if (answer.status === 401) expect(answer.body).toEqual(NO_TOKEN);
    statuses.push(answer.status);
  }
  return statuses;
}

const NO_TOKEN = {
  error: 'authentication failed',
  code: 'AUTH_FAILED',
  details: 'A token is needed',
  reason: 'missing',
};

describe("a token of no user, as Supabase's anon key,", () => {
  const anonKey = (claims: object = {}) => signClaims({ iss: 'supabase', role: 'anon', ...claims }, SECRET);

  test('is let in as a visitor where a channel does not require a token, and has no end', async () => {
    await makeChannel('lobby-of-anon', { require_auth: false });
    const client = dial(server, 'lobby-of-anon', { token: await anonKey() });
    const { payload } = await client.next('system', 'connected');
    expect(payload.user_id).toBe(`anon_${payload.connection_id}`);
    expect(payload.token_expires_at).toBeUndefined();
    client.send({ type: 'message', event: 'hello', payload: {} });
    expect((await client.next('message', 'hello')).user_id).toBe(payload.user_id);
    client.send({ type: 'auth', event: 'refresh', payload: { token: await anonKey() }, ref: 1 });
    expect((await client.next('reply')).event).toBe('ok');
    client.send({
      type: 'auth',
      event: 'refresh',
      payload: { token: await signClaims({ sub: 'ada' }, SECRET) },
      ref: 2,
    });
    expect((await client.next('reply')).payload).toMatchObject({ reason: 'claims' });
    await client.close();
  });

  test('has the role anonymous alone', async () => {
    await makeChannel('anon-only', { require_auth: false, permissions: { read: ['anon'] } });
    await makeChannel('anonymous-only', { require_auth: false, permissions: { read: ['anonymous'] } });
    const refused = dial(server, 'anon-only', { token: await anonKey() });
    expect((await refused.next('system', 'error')).payload.code).toBe('PERMISSION_DENIED');
    const client = dial(server, 'anonymous-only', { token: await anonKey() });
    await client.next('system', 'connected');
    await client.close();
  });

  test('is refused where a channel requires a token, in the words for no token', async () => {
    const client = dial(server, 'plain', { token: await anonKey() });
    expect((await client.next('system', 'error')).payload).toEqual(NO_TOKEN);
    expect((await client.closed).code).toBe(4401);
  });

  test('is no token over HTTP', async () => {
    await makeChannel('http-of-anon', { require_auth: false });
    const listener = dial(server, 'http-of-anon');
    await listener.next('system', 'connected');
    expect(await overHttp('http-of-anon', await anonKey())).toEqual([200, 200, 401, 401, 401]);
    const first = (await listener.next('message', 'x')).user_id;
    expect(await overHttp('http-of-anon', await anonKey())).toEqual([200, 200, 401, 401, 401]);
    const second = (await listener.next('message', 'x')).user_id;
    for (const user of [first, second]) expect(user).toMatch(/^anon_req_[a-z0-9]{16}$/);
    expect(second).not.toBe(first);
    expect(await overHttp('plain', await anonKey())).toEqual([401, 401, 401, 401, 401]);
    await listener.close();
  });

  test.each([
    ['expired', () => anonKey({ exp: secondsFromNow(-60) })],
    ['signature', () => signClaims({ role: 'anon' }, 'another secret that is long enough')],
    ['claims', () => anonKey({ roles: ['user'] })],
  ])('that is bad is refused everywhere: %s', async (reason, make) => {
    await makeChannel(`open-${reason}`, { require_auth: false });
    const client = dial(server, `open-${reason}`, { token: await make() });
    expect((await client.next('system', 'error')).payload).toMatchObject({ code: 'AUTH_FAILED', reason });
    const answer = await server.call('GET', `${CHANNELS}/open-${reason}`, { token: await make() });
    expect([answer.status, answer.body.reason]).toEqual([401, reason]);
    await client.closed;
  });

  test('does not take the place of the token of a user', async () => {
    const client = await join(server, 'plain', '', { token: await signClaims({ sub: 'ada' }, SECRET) });
    client.send({ type: 'auth', event: 'refresh', payload: { token: await anonKey() }, ref: 1 });
    expect((await client.next('reply')).payload).toMatchObject({ code: 'AUTH_FAILED', reason: 'claims' });
    await client.close();
  });
});

describe('limits of visitors', () => {
  test('count their address, with a token of no user and without one', async () => {
    const limited = await startTestServer({
      REALTIME_JWT_SECRET: SECRET,
      REALTIME_MESSAGE_RATE: '0.01/s, burst 2',
    });
    try {
      const root = await signClaims({ sub: 'boss', role: 'admin' }, SECRET);
      const body = { name: 'open', require_auth: false };
      await limited.call('POST', CHANNELS, { token: root, body });
      const token = await signClaims({ role: 'anon' }, SECRET);
      const publish = async (options: object) =>
        (await limited.call('POST', `${CHANNELS}/open/broadcast`, { body: { event: 'x' }, ...options }))
          .status;
      expect([await publish({ token }), await publish({}), await publish({ token })]).toEqual([
        200, 200, 429,
      ]);
    } finally {
      await limited.stop();
    }
  });
});
