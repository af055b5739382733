import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { run, subscribe } from '../support/row-changes.js';
import { join, type Received, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, startTestServer, type TestServer } from '../support/test-server.js';
import { signClaims } from '../support/tokens.js';

const SECRET = 'the secret of the tests of refreshes, long enough';

/** Sends a token over the connection and returns the reply. */
async function refresh(client: TestClient, token: unknown, others: object = {}): Promise<Received> {
  const ref = `refresh-${Math.random()}`;
  client.send({ type: 'auth', event: 'refresh', payload: { token, ...others }, ref });
  return client.next('reply', undefined, (message) => message.ref === ref);
}

describe('a token refresh', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({
      REALTIME_CONNECTION_RATE: '1000/s, burst 1000',
      REALTIME_JWT_CLOCK_TOLERANCE: '0s',
    });
  });
  afterAll(() => server.stop());

  /** Creates a channel with permission lists. */
  async function createChannel(name: string, permissions: object): Promise<void> {
    const token = await server.token('root', 'admin');
    const { status } = await server.call('POST', '/realtime/channels', {
      token,
      body: { name, permissions },
    });
    expect(status).toBe(201);
  }

  test('keeps the connection open until the new token expires', async () => {
    const client = await join(server, 'longer', 'ada', { token: await server.token('ada', 'user', 2_000) });
    const first = (await client.next('system', 'token_expiring')).payload.expires_at;
    const { event, payload } = await refresh(client, await server.token('ada', 'user', 4_000));
    expect([event, Date.parse(payload.token_expires_at ?? '')]).toEqual(['ok', expect.any(Number)]);
    expect(Date.parse(payload.token_expires_at ?? '')).toBeGreaterThan(Date.parse(first));
    // The new token expires so soon that the server warns of it at once.
    const warned = client.all('system', 'token_expiring').map((message) => message.payload.expires_at);
    expect(warned).toEqual([first, payload.token_expires_at]);
    expect((await client.next('system', 'error')).payload.code).toBe('AUTH_FAILED');
    expect((await client.closed).code).toBe(4401);
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(payload.token_expires_at ?? ''));
  });

  test('accepts a token that never expires', async () => {
    const client = await join(server, 'forever', 'ada', { token: await server.token('ada', 'user', 60_000) });
    const { event, payload } = await refresh(client, await server.token('ada', 'user', null));
    expect([event, payload]).toEqual(['ok', {}]);
    await client.close();
  });

  test('with an invalid token or the token of another user is refused and changes nothing', async () => {
    const client = await join(server, 'same', 'ada');
    const bad = [
      ['rubbish', 'Invalid or expired token', 'malformed'],
      [
        await signClaims({ sub: 'ada' }, 'another secret, thirty-two bytes or more'),
        'Invalid or expired token',
        'signature',
      ],
      [await server.token('bob', 'admin'), 'The token is of another user', 'claims'],
    ];
    for (const [token, details, reason] of bad) {
      const { event, payload } = await refresh(client, token);
      expect([event, payload]).toEqual([
        'error',
        { error: 'authentication failed', code: 'AUTH_FAILED', details, reason },
      ]);
    }
    expect((await refresh(client, 7)).payload).toMatchObject({
      code: 'VALIDATION_FAILED',
      field: 'token',
    });
    expect((await refresh(client, 'x', { tokne: 'x' })).payload.code).toBe('VALIDATION_FAILED');
    client.send({ type: 'auth', event: 'login', payload: {}, ref: 1 });
    expect((await client.next('reply', 'error')).payload).toMatchObject({
      code: 'VALIDATION_FAILED',
      field: 'event',
    });
    client.send({ type: 'message', event: 'still-ada', payload: {} });
    expect((await client.next('message', 'still-ada')).user_id).toBe('ada');
    await client.close();
  });

  test('without read permission on the channel closes the connection', async () => {
    await createChannel('readers', { read: ['reader'] });
    const client = await join(server, 'readers', 'ada', { role: 'reader' });
    client.send({
      type: 'auth',
      event: 'refresh',
      payload: { token: await server.token('ada', 'stranger') },
    });
    expect((await client.next('system', 'error')).payload).toMatchObject({
      code: 'PERMISSION_DENIED',
      required_permission: 'read',
    });
    expect((await client.closed).code).toBe(4503);
  });

  test('with write permission lists the user, who stays listed until no connection has that permission', async () => {
    await createChannel('writers', { write: ['writer'] });
    const watcher = await join(server, 'writers', 'watcher');
    const [first, second] = [await join(server, 'writers', 'ada'), await join(server, 'writers', 'ada')];
    const [writer, reader] = [await server.token('ada', 'writer'), await server.token('ada', 'user')];
    const publish = async () => {
      first.send({ type: 'message', event: 'hello', payload: {}, ref: 'hello' });
      return (await first.next('reply', undefined, ({ ref }) => ref === 'hello')).event;
    };
    expect(await publish()).toBe('error');
    await refresh(first, writer);
    expect((await watcher.next('presence', 'join')).payload.user_id).toBe('ada');
    expect(await publish()).toBe('ok');
    await refresh(second, writer);
    await refresh(first, reader);
    expect(await publish()).toBe('error');
    await watcher.settle();
    expect(watcher.all('presence', 'leave')).toEqual([]);
    await refresh(second, reader);
    expect((await watcher.next('presence', 'leave')).payload.user_id).toBe('ada');
    await Promise.all([watcher.close(), first.close(), second.close()]);
  });
});

describe('row changes and a token refresh', () => {
  let server: TestServer;
  beforeEach(async () => {
    server = await startRowChangeServer({
      REALTIME_JWT_SECRET: SECRET,
      REALTIME_DB_ROLES: 'test_refresher',
      REALTIME_JWT_CLOCK_TOLERANCE: '0s',
    });
    // Roles belong to the whole cluster, which all tests share.
    await run(
      server,
      `DO $$ BEGIN CREATE ROLE test_refresher NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
       CREATE TABLE notes (id int PRIMARY KEY, team text, body text);
       CREATE TABLE secrets (id int PRIMARY KEY, body text);
       GRANT SELECT (id, team) ON notes TO test_refresher;
       ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
       CREATE POLICY p ON notes USING (team = current_setting('request.jwt.claims')::jsonb ->> 'role')`,
    );
    const token = await server.token('root', 'admin');
    for (const table of ['notes', 'secrets'])
      await server.call('POST', `/realtime/triggers/${table}`, { token, body: {} });
  });
  afterEach(() => server.stop());

  let rows = 0;
  /** Inserts a row for each team. Returns the teams of the rows that the client receives. */
  async function receivedTeams(client: TestClient, teams: readonly string[]): Promise<unknown[]> {
    const before = client.all('database_change').length;
    for (const team of teams) await run(server, `INSERT INTO notes VALUES (${++rows}, '${team}', 'x')`);
    await run(server, `SELECT realtime.send('lobby', 'end', '{}')`);
    await client.next('message', 'end');
    const changes = client.all('database_change').slice(before);
    return changes.map(({ payload }) => payload.change.new_record?.team);
  }

  async function subscribePersonally(client: TestClient, filter: object): Promise<string> {
    client.send({ type: 'subscribe', event: 'database_changes', payload: filter, ref: 'follow' });
    const { event, payload } = await client.next('reply');
    expect(event).toBe('ok');
    return payload.subscription_id ?? '';
  }

  test.each([
    ['a subscription of the channel', () => subscribe(server, 'lobby', { table: 'notes' })],
    [
      'a personal subscription',
      (client: TestClient) => subscribePersonally(client, { table: 'notes', snapshot: true }),
    ],
  ])('row changes match the claims of the new token, by %s', async (_kind, begin) => {
    const client = await join(server, 'lobby', 'ada', { role: 'red' });
    await begin(client);
    expect(await receivedTeams(client, ['red', 'blue'])).toEqual(['red']);
    expect((await refresh(client, await server.token('ada', 'blue'))).event).toBe('ok');
    expect(await receivedTeams(client, ['red', 'blue'])).toEqual(['blue']);
    expect((await refresh(client, await server.token('ada', 'red'))).event).toBe('ok');
    expect(await receivedTeams(client, ['blue', 'red', 'red'])).toEqual(['red', 'red']);
  });

  test('row changes match the new database role, and subscriptions that it may not read end with the reason', async () => {
    const client = await join(server, 'lobby', 'ada', { role: 'test' });
    await subscribePersonally(client, { table: 'secrets' });
    await subscribePersonally(client, { table: 'notes', condition: "body = 'x'" });
    const kept = await subscribePersonally(client, { table: 'notes', condition: "team <> ''" });
    expect((await refresh(client, await server.token('ada', 'test_refresher'))).event).toBe('ok');
    const ended = client.all('system', 'error').map(({ payload }) => [payload.code, payload.details]);
    expect(ended).toEqual([
      ['DB_SUBSCRIPTION_FAILED', 'permission denied for table secrets'],
      ['DB_SUBSCRIPTION_FAILED', 'permission denied for column body'],
    ]);
    await run(server, `INSERT INTO secrets VALUES (1, 'x')`);
    expect(await receivedTeams(client, ['test', 'test_refresher'])).toEqual(['test_refresher']);
    const [last] = client.all('database_change').slice(-1);
    expect(last?.payload.subscription_ids).toEqual([kept]);
    expect(last?.payload.change.new_record).toEqual({ id: rows, team: 'test_refresher' });
  });

  test('a token whose claims cannot be used is refused, and row changes go on by the claims before it', async () => {
    await subscribe(server, 'lobby', { table: 'notes' });
    const client = await join(server, 'lobby', 'ada', { role: 'red' });
    const nested = JSON.parse('['.repeat(64) + ']'.repeat(64)) as unknown;
    const claims = { sub: 'ada', role: 'blue' };
    for (const token of [
      await signClaims({ ...claims, nested }, SECRET),
      await signClaims({ ...claims, long: 'x'.repeat(20_000) }, SECRET),
      await signClaims({ ...claims, sub: 'a\0b', user_id: 'ada' }, SECRET),
    ])
      expect((await refresh(client, token)).payload).toMatchObject({ code: 'AUTH_FAILED', reason: 'claims' });
    expect(await receivedTeams(client, ['red', 'blue'])).toEqual(['red']);
  });

  test('a policy that fails is reported once for each set of claims', async () => {
    await run(server, `ALTER POLICY p ON notes USING (1 / (length(team) - 3) >= 0)`);
    const id = await subscribe(server, 'lobby', { table: 'notes' });
    const client = await join(server, 'lobby', 'ada', { role: 'red' });
    expect(await receivedTeams(client, ['red', 'red', 'blue'])).toEqual(['blue']);
    const policyErrors = () =>
      client.all('system', 'error').map(({ payload }) => [payload.code, payload.subscription_id]);
    expect(policyErrors()).toEqual([['POLICY_ERROR', id]]);
    await refresh(client, await server.token('ada', 'red', 1_800_000));
    expect(await receivedTeams(client, ['red'])).toEqual([]);
    expect(policyErrors()).toHaveLength(1);
    await refresh(client, await server.token('ada', 'blue'));
    expect(await receivedTeams(client, ['red', 'red'])).toEqual([]);
    expect(policyErrors()).toEqual(Array(2).fill(['POLICY_ERROR', id]));
  });

  test('row changes stop in the middle of a stream when the token expires', async () => {
    await subscribe(server, 'lobby', { table: 'notes' });
    const client = await join(server, 'lobby', 'ada', { token: await server.token('ada', 'red', 2_000) });
    const expiry = Date.parse((await client.next('system', 'token_expiring')).payload.expires_at);
    let isStopping = false;
    const writing = (async () => {
      while (!isStopping) await run(server, `INSERT INTO notes VALUES (${++rows}, 'red', 'x')`);
    })();
    expect((await client.closed).code).toBe(4401);
    isStopping = true;
    await writing;
    const committed = client
      .all('database_change')
      .map(({ payload }) => Date.parse(payload.change.commit_timestamp));
    expect(committed.length).toBeGreaterThan(10);
    // The server closes an expired connection within a second.
    expect(Math.max(...committed)).toBeLessThan(expiry + 1_000);
    expect(client.received.slice(-1)[0]?.payload.code).toBe('AUTH_FAILED');
  });

  const REVOKED = [
    ['a policy is altered', `ALTER POLICY p ON notes USING (team = 'nobody')`],
    ['a policy is added', `CREATE POLICY q ON notes AS RESTRICTIVE USING (body <> 'x')`],
    ['a grant is revoked', 'REVOKE SELECT ON notes FROM realtime_subscriber'],
    ['the only policy is dropped', 'DROP POLICY p ON notes'],
  ] as const;
  test.each(REVOKED)('row changes stop in the middle of a stream when %s', async (_what, statement) => {
    await subscribe(server, 'lobby', { table: 'notes' });
    const client = await join(server, 'lobby', 'ada', { role: 'red' });
    const first = ++rows;
    await run(server, `INSERT INTO notes VALUES (${first}, 'red', 'x')`);
    await client.next('database_change');
    let [isStopping, revokedBy] = [false, Number.POSITIVE_INFINITY];
    const writing = (async () => {
      while (!isStopping) await run(server, `INSERT INTO notes VALUES (${++rows}, 'red', 'x')`);
    })();
    await eventually(async () => expect(client.all('database_change').length).toBeGreaterThan(20));
    await run(server, statement);
    revokedBy = rows;
    await eventually(async () => expect(rows).toBeGreaterThan(revokedBy + 20));
    isStopping = true;
    await writing;
    expect(await receivedTeams(client, ['red'])).toEqual([]);
    const ids = client.all('database_change').map(({ payload }) => Number(payload.change.new_record?.id));
    // The row that was being written when the statement ended may have committed before it.
    expect(ids).toEqual(Array.from(ids, (_, n) => first + n));
    expect(Math.max(...ids)).toBeLessThanOrEqual(revokedBy);
  });
});
