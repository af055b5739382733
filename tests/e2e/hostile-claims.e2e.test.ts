import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cells } from '../support/matrix.js';
import { createEncodedDatabase, type TestDatabase } from '../support/postgres-database.js';
import { RecordingLog } from '../support/recording-log.js';
import { run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';
import { signClaims } from '../support/tokens.js';

const SECRET = 'the secret of the tests of hostile claims, long enough';
const CLAIM = (name: string) => `(current_setting('request.jwt.claims', true)::jsonb ->> '${name}')`;

/** One table for each tier, by its name; their policies read a user id, claims and a setting. */
const POLICIES = {
  open: undefined,
  indexed: `owner = ${CLAIM('sub')}`,
  compiled: `owner = current_setting('app.current_user_id') OR owner <> ${CLAIM('sub')} AND owner = current_setting('app.owner')`,
  postgres: `lower(owner) = lower(${CLAIM('sub')}) OR lower(owner) = lower(current_setting('app.owner'))`,
};
const TABLES = Object.keys(POLICIES);

async function createTables(server: TestServer): Promise<void> {
  for (const [table, policy] of Object.entries(POLICIES)) {
    const protection =
      policy === undefined
        ? ''
        : `ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON ${table} USING (${policy})`;
    await run(server, `CREATE TABLE ${table} (id int PRIMARY KEY, owner text); ${protection}`);
    await subscribe(server, 'lobby', { table });
  }
}

async function member(server: TestServer, sub: string, claims: object): Promise<TestClient> {
  return join(server, 'lobby', sub, { token: await signClaims({ sub, ...claims }, SECRET) });
}

let rows = 0;
/** Inserts a row of each user into each table. Returns the tables and owners of the rows that each client receives. */
async function received(server: TestServer, owners: readonly string[], clients: readonly TestClient[]) {
  const before = clients.map((client) => client.all('database_change').length);
  for (const table of TABLES)
    for (const owner of owners) await run(server, `INSERT INTO ${table} VALUES (${++rows}, '${owner}')`);
  await run(server, `SELECT realtime.send('lobby', 'end', '{}')`);
  const seen: string[][] = [];
  for (const [n, client] of clients.entries()) {
    await client.next('message', 'end');
    expect(client.all('system', 'gap')).toEqual([]);
    const changes = client.all('database_change').slice(before[n]);
    seen.push(
      changes.map(({ payload: { change } }) => `${change.table} ${String(change.new_record?.owner)}`),
    );
  }
  return seen;
}

/** The rows that a user with rows of its own receives. */
function own(user: string, owners: readonly string[]): string[] {
  return [...owners.map((owner) => `open ${owner}`), ...TABLES.slice(1).map((table) => `${table} ${user}`)];
}

describe.each(cells({ postgres: 'newest', source: 'logical' }, { postgres: 'oldest', source: 'trigger' }))(
  'with the $source source on the $postgres PostgreSQL',
  ({ postgres, source }) => {
    const log = new RecordingLog();
    let server: TestServer;
    beforeAll(async () => {
      const settings = {
        REALTIME_JWT_SECRET: SECRET,
        REALTIME_CHANGE_SOURCE: source,
        REALTIME_CLAIM_SETTINGS: 'app.owner=note, app.all=all',
      };
      server = await startRowChangeServer(settings, { log, postgres });
      await createTables(server);
    });
    afterAll(() => server.stop());

    test('whatever the claims of others, each user receives its own rows on every tier', async () => {
      const users = ['victim', 'nul', 'half', 'key', 'many', 'deep', 'huge', 'proto'];
      const deep = JSON.parse('['.repeat(63) + ']'.repeat(63)) as unknown;
      const clients = [
        await member(server, 'victim', {}),
        await member(server, 'nul', { note: 'a\0b', all: ['a\0b'], name: 'Łukasz' }),
        await member(server, 'half', { note: '\ud83d', all: { x: '\udc00\ud83d' } }),
        await member(server, 'key', { 'a\0b': 1, all: { '\ud83d': { '\0': 1 } } }),
        await member(
          server,
          'many',
          Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`k${n}`, n])),
        ),
        await member(server, 'deep', { deep }),
        await member(server, 'huge', { all: `é\u0001"\\${'x'.repeat(11_000)}` }),
        await member(server, 'proto', JSON.parse('{"__proto__":{"sub":"victim"},"constructor":"victim"}')),
      ];
      const seen = await received(server, users, clients);
      expect(seen).toEqual(users.map((user) => own(user, users)));
      expect(log.errors).toEqual([]);
      await Promise.all(clients.map((client) => client.close()));
    });

    test('claims that the database cannot hold are counted, and each name is logged once', async () => {
      const counted = async () => {
        const token = await signClaims({ sub: 'root', role: 'admin' }, SECRET);
        const { text } = await server.call('GET', '/metrics', { token });
        return Number(/^realtime_claims_replaced_total (\d+)$/m.exec(text)?.[1]);
      };
      const before = await counted();
      const warned = log.warnings.length;
      for (const claims of [{ counted: '\0' }, { counted: 'x' }, { counted: ['\ud83d'] }])
        await (await member(server, 'ada', claims)).close();
      expect(await counted()).toBe(before + 2);
      expect(log.warnings.slice(warned)).toEqual([expect.stringContaining('policies see null')]);
    });
  },
);

describe('in a database in LATIN1', () => {
  let database: TestDatabase;
  let server: TestServer;
  let clients: TestClient[];
  beforeAll(async () => {
    database = await createEncodedDatabase('LATIN1');
    server = await startRowChangeServer({
      DATABASE_URL: database.url,
      REALTIME_JWT_SECRET: SECRET,
      REALTIME_CLAIM_SETTINGS: 'app.owner=note',
    });
    await createTables(server);
    clients = [
      await member(server, 'josé', { name: 'José' }),
      await member(server, 'łukasz', { name: 'Łukasz' }),
      await member(server, 'jan', { name: 'Łukasz', note: 'Łódź', Łódź: 1 }),
    ];
  });
  afterAll(async () => {
    await Promise.all(clients.map((client) => client.close()));
    await server.stop();
    await database.drop();
  });

  async function subscribePersonally(client: TestClient | undefined) {
    client?.send({
      type: 'subscribe',
      event: 'database_changes',
      payload: { table: 'postgres', snapshot: true },
      ref: 1,
    });
    return client?.next('reply');
  }

  test('a user whose id or claims it cannot hold breaks nothing for others', async () => {
    const owners = ['josé', 'jan', ''];
    expect(await received(server, owners, clients)).toEqual([
      // As for every user without a note, their setting is '', which rows without an owner match.
      expect.arrayContaining(own('josé', owners)),
      // Policies of a user that the database cannot name are true of no row, not even of these.
      owners.map((owner) => `open ${owner}`),
      expect.arrayContaining(own('jan', owners)),
    ]);
    const errors = clients.map((client) => client.all('system', 'error').map(({ payload }) => payload.code));
    expect(errors[0]).toEqual([]);
    expect(errors[1]).toContain('POLICY_ERROR');
  });

  test('a user whose id it cannot hold gets no snapshot, and explain says why', async () => {
    expect((await subscribePersonally(clients[0]))?.event).toBe('ok');
    const refused = await subscribePersonally(clients[1]);
    expect(refused?.payload.code).toBe('DB_SUBSCRIPTION_FAILED');
    const token = await signClaims({ sub: 'root', role: 'admin' }, SECRET);
    const body = { table: 'postgres', user: { sub: 'łukasz' }, row: { id: 1, owner: 'jan' } };
    const answer = await server.call('POST', '/realtime/explain', { token, body });
    expect([answer.status, answer.body]).toEqual([
      200,
      expect.objectContaining({
        visible: false,
        reasons: ['The user id has a character that the encoding of the database does not have.'],
      }),
    ]);
  });

  test('channels keep texts that it cannot hold, and no request fails inside the server', async () => {
    const token = await signClaims({ sub: 'root', role: 'admin' }, SECRET);
    const metadata = { city: 'Łódź', Łódź: '\0' };
    const created = await server.call('POST', '/realtime/channels', {
      token,
      body: { name: 'cities', metadata, permissions: { read: ['żużel'] } },
    });
    expect(created.status).toBe(201);
    const [stored] = await run<{ config: { metadata: object } }>(
      server,
      `SELECT config FROM realtime.channels WHERE name = 'cities'`,
    );
    expect(stored?.config.metadata).toEqual(metadata);
    const other = await signClaims({ sub: 'łukasz', role: 'admin' }, SECRET);
    const subscribing = await server.call('POST', '/realtime/channels/cities/subscribe', {
      token: other,
      body: { table: 'open' },
    });
    expect([subscribing.status, subscribing.body.code]).toEqual([400, 'DB_SUBSCRIPTION_FAILED']);
    for (const name of ['Łódź', 'a\0b', '\ud83d']) {
      const body = { table: name };
      const answers = [
        await server.call('POST', '/realtime/channels/lobby/subscribe', { token, body }),
        await server.call('POST', '/realtime/explain', {
          token,
          body: { ...body, user: { sub: 'ada' }, key: { id: 1 } },
        }),
      ];
      expect(answers.map(({ status }) => status)).toEqual([400, 404]);
    }
    for (const path of ['/realtime/triggers/a%00b', '/realtime/triggers/open?schema=a%00b'])
      expect((await server.call('POST', path, { token, body: {} })).status).toBe(404);
  });
});
