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
  await createChannel('editors', { permissions: { read: ['editor'] } });
  await createChannel('users', { permissions: { read: ['user'] } });
  await createChannel('plain', {});
});
afterAll(() => server.stop());

const CHANNELS = '/realtime/channels';

async function createChannel(name: string, config: object): Promise<void> {
  const created = await server.call('POST', CHANNELS, { token: admin, body: { name, ...config } });
  expect(created.status).toBe(201);
}

const statusOf = async (channel: string, token: string) =>
  (await server.call('GET', `${CHANNELS}/${channel}`, { token })).status;

describe('the user ID of a token', () => {
  test.each([
    [{ user_id: 'ada', sub: 'other' }, 'ada'],
    [{ sub: 'ada' }, 'ada'],
    [{ user_id: null, sub: 'ada' }, 'ada'],
    [{ user_id: 'u'.repeat(255) }, 'u'.repeat(255)],
  ])('comes from the claims %j: %s', async (claims, userId) => {
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
  ])('is missing or invalid in the claims %j, so that the token is refused', async (claims) => {
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
  ])('include editor for the claims %j', async (claims) => {
    expect(await statusOf('editors', await signClaims({ sub: 'ada', ...claims }, SECRET))).toBe(200);
  });

  test.each([
    [{ role: 'Editor' }],
    [{ role: 'editor ' }],
    [{ user_metadata: { roles: ['editor'] } }],
    [{ app_metadata: 'editor' }],
    [{ app_metadata: null, roles: { 0: 'editor' } }],
    [{ scope: 'editor' }],
  ])('do not include editor for the claims %j', async (claims) => {
    expect(await statusOf('editors', await signClaims({ sub: 'ada', ...claims }, SECRET))).toBe(403);
  });

  test('default to user, and do not include it if the token names others', async () => {
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
    'are compared with REALTIME_ADMIN_ROLES=root,ops: an admin route answers the claims %j with %i',
    async (claims, status) => {
      const token = await signClaims({ sub: 'ada', ...claims }, SECRET);
      expect((await server.call('GET', '/realtime/stats', { token })).status).toBe(status);
    },
  );
});

describe('the validity of a token', () => {
  test.each([
    ['that has expired is refused', { exp: secondsFromNow(-60) }, 401],
    ['that has expired within the clock tolerance is accepted', { exp: secondsFromNow(-1) }, 200],
    ['that is not valid yet is refused', { nbf: secondsFromNow(60) }, 401],
    ['that was issued in the future is refused', { iat: secondsFromNow(60) }, 401],
    ['without an expiry is accepted', { exp: null }, 200],
    ['with an expiry beyond the range of dates is accepted', { exp: 1e15 }, 200],
    ['with an expiry that is not a number is refused', { exp: '2030-01-01' as unknown as number }, 401],
  ])('a token %s', async (_what, times, status) => {
    const token = await signClaims({ sub: 'ada', ...times }, SECRET);
    expect(await statusOf('plain', token)).toBe(status);
  });
});

describe('an invalid token', () => {
  const unsigned = (header: object) =>
    [header, { sub: 'ada', role: 'root', exp: secondsFromNow(60) }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');

  test.each([
    ['without a signature', 'algorithm', () => `${unsigned({ alg: 'none' })}.`],
    ['with an empty signature', 'signature', () => `${unsigned({ alg: 'HS256' })}.`],
    [
      'signed with another secret',
      'signature',
      () => signClaims({ sub: 'ada' }, 'another secret that is long enough'),
    ],
    [
      'with an unknown critical header',
      'malformed',
      () => `${unsigned({ alg: 'HS256', crit: ['x'], x: 1 })}.AAAA`,
    ],
    ['of three meaningless parts', 'malformed', () => 'a.b.c'],
    ['of a single part', 'malformed', () => 'a'],
    ['of 10,000 characters', 'malformed', () => 'a'.repeat(10_000)],
  ])('%s is refused with the same details and the reason %s', async (_what, reason, make) => {
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

describe('the permission lists of a channel', () => {
  const call = (method: string, path: string, token: string, body?: object) =>
    server.call(method, path, { token, ...(body === undefined ? {} : { body }) });

  test('allow everyone with a token to read and write when they are missing, and only server admins to administer', async () => {
    await createChannel('no-lists', {});
    const token = await signClaims({ sub: 'ada', role: 'whatever' }, SECRET);
    expect(await statusOf('no-lists', token)).toBe(200);
    expect((await call('POST', `${CHANNELS}/no-lists/broadcast`, token, { event: 'x' })).status).toBe(200);
    const refused = await call('DELETE', `${CHANNELS}/no-lists`, token);
    expect([refused.status, refused.body.required_permission]).toEqual([403, 'admin']);
    expect((await call('DELETE', `${CHANNELS}/no-lists`, admin)).status).toBe(200);
  });

  test('allow only server admins when they are empty', async () => {
    await createChannel('empty-lists', { permissions: { read: [], write: [], admin: [] } });
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
  test('a WebSocket may join a channel that does not require one, and permission lists may name anonymous', async () => {
    await createChannel('public', { require_auth: false });
    await createChannel('listen-only', {
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
      'the read list does not name anonymous',
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
    ['the channel does not exist', 'not-there', undefined, 'AUTH_FAILED', 4401],
  ])('a WebSocket is refused if %s', async (_why, name, config, code, close) => {
    if (config !== undefined) await createChannel(name, config);
    const client = dial(server, name);
    expect((await client.next('system', 'error')).payload.code).toBe(code);
    expect((await client.closed).code).toBe(close);
  });

  test('each connection is an anonymous user of its own, and an invalid token does not make one', async () => {
    await createChannel('visitors', { require_auth: false });
    const [first, second] = [dial(server, 'visitors'), dial(server, 'visitors')];
    const ids = [await first.next('system', 'connected'), await second.next('system', 'connected')];
    expect(new Set(ids.map(({ payload }) => payload.user_id)).size).toBe(2);
    const failing = dial(server, 'visitors', { token: 'rubbish' });
    expect((await failing.next('system', 'error')).payload.code).toBe('AUTH_FAILED');
    await Promise.all([first.close(), second.close(), failing.closed]);
  });

  test('an HTTP request may read and publish in a channel that does not require one, and gets 401 elsewhere', async () => {
    await createChannel('public-http', { require_auth: false });
    expect(await statusesOverHttp('public-http', undefined)).toEqual([200, 200, 401, 401, 401]);
    expect(await statusesOverHttp('plain', undefined)).toEqual([401, 401, 401, 401, 401]);
    expect(await statusesOverHttp('not-there', undefined)).toEqual([401, 401, 401, 401, 401]);
  });
});

/** Returns the statuses of reading, publishing, setting presence, deleting and listing channels. */
async function statusesOverHttp(channel: string, token: string | undefined): Promise<number[]> {
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
  details: 'A token of a user is needed',
  reason: 'missing',
};

describe("a token without a user, such as Supabase's anon key,", () => {
  const anonKey = (claims: object = {}) => signClaims({ iss: 'supabase', role: 'anon', ...claims }, SECRET);

  test('joins a channel that does not require a token as an anonymous user, and never expires', async () => {
    await createChannel('lobby-of-anon', { require_auth: false });
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

  test('has only the role anonymous', async () => {
    await createChannel('anon-only', { require_auth: false, permissions: { read: ['anon'] } });
    await createChannel('anonymous-only', { require_auth: false, permissions: { read: ['anonymous'] } });
    const refused = dial(server, 'anon-only', { token: await anonKey() });
    expect((await refused.next('system', 'error')).payload.code).toBe('PERMISSION_DENIED');
    const client = dial(server, 'anonymous-only', { token: await anonKey() });
    await client.next('system', 'connected');
    await client.close();
  });

  test('is refused by a channel that requires a token, with the error for a missing token', async () => {
    const client = dial(server, 'plain', { token: await anonKey() });
    expect((await client.next('system', 'error')).payload).toEqual(NO_TOKEN);
    expect((await client.closed).code).toBe(4401);
  });

  test('counts as no token over HTTP', async () => {
    await createChannel('http-of-anon', { require_auth: false });
    const listener = dial(server, 'http-of-anon');
    await listener.next('system', 'connected');
    expect(await statusesOverHttp('http-of-anon', await anonKey())).toEqual([200, 200, 401, 401, 401]);
    const first = (await listener.next('message', 'x')).user_id;
    expect(await statusesOverHttp('http-of-anon', await anonKey())).toEqual([200, 200, 401, 401, 401]);
    const second = (await listener.next('message', 'x')).user_id;
    for (const user of [first, second]) expect(user).toMatch(/^anon_req_[a-z0-9]{16}$/);
    expect(second).not.toBe(first);
    expect(await statusesOverHttp('plain', await anonKey())).toEqual([401, 401, 401, 401, 401]);
    await listener.close();
  });

  test.each([
    ['expired', () => anonKey({ exp: secondsFromNow(-60) })],
    ['signature', () => signClaims({ role: 'anon' }, 'another secret that is long enough')],
    ['claims', () => anonKey({ roles: ['user'] })],
  ])('is refused everywhere when it is invalid, with the reason %s', async (reason, make) => {
    await createChannel(`open-${reason}`, { require_auth: false });
    const client = dial(server, `open-${reason}`, { token: await make() });
    expect((await client.next('system', 'error')).payload).toMatchObject({ code: 'AUTH_FAILED', reason });
    const answer = await server.call('GET', `${CHANNELS}/open-${reason}`, { token: await make() });
    expect([answer.status, answer.body.reason]).toEqual([401, reason]);
    await client.closed;
  });

  test('cannot replace the token of a user', async () => {
    const client = await join(server, 'plain', '', { token: await signClaims({ sub: 'ada' }, SECRET) });
    client.send({ type: 'auth', event: 'refresh', payload: { token: await anonKey() }, ref: 1 });
    expect((await client.next('reply')).payload).toMatchObject({ code: 'AUTH_FAILED', reason: 'claims' });
    await client.close();
  });
});

describe('the message rate of anonymous users', () => {
  test('is shared by all of one address, with an anon key or without a token', async () => {
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
