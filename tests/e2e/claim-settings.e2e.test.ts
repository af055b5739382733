import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';
import { signClaims } from '../support/tokens.js';

const SECRET = 'the secret of the tests of claims, long enough';

let server: TestServer;
beforeAll(async () => {
  server = await startRowChangeServer({
    REALTIME_JWT_SECRET: SECRET,
    REALTIME_CLAIM_SETTINGS: 'app.current_tenant=tenant_id, app.level=app_metadata.level',
  });
});
afterAll(() => server.stop());

const tokenOf = (sub: string, claims: object) => signClaims({ sub, ...claims }, SECRET);
const tenant = (name: string) => ({ tenant_id: name });

async function member(channel: string, sub: string, claims: object, query = ''): Promise<TestClient> {
  return join(server, channel, sub, { token: await tokenOf(sub, claims), query });
}

/** Inserts rows of `[id, tenant, level]` and sends the message `end` behind them. */
async function write(channel: string, rows: readonly (readonly [number, string, number])[]): Promise<void> {
  const values = rows.map(([id, name, level]) => `(${id}, '${name}', ${level})`).join(', ');
  await run(
    server,
    `INSERT INTO ${channel} VALUES ${values}; SELECT realtime.send('${channel}', 'end', '{}')`,
  );
}

/** Waits for the next message `end` and returns the ids of all rows that the client has received. */
async function idsOf(client: TestClient): Promise<unknown[]> {
  await client.next('message', 'end');
  return client.all('database_change').map(({ payload }) => payload.change.new_record?.id);
}

async function refresh(client: TestClient, token: string): Promise<void> {
  client.send({ type: 'auth', event: 'refresh', payload: { token }, ref: 'refresh' });
  expect((await client.next('reply', undefined, ({ ref }) => ref === 'refresh')).event).toBe('ok');
}

async function explain(table: string, user: object, id: number) {
  const token = await tokenOf('root', { role: 'admin' });
  const body = { table, user, key: { id } };
  const answer = await server.call('POST', '/realtime/explain', { token, body });
  expect(answer.status).toBe(200);
  return answer.body as unknown as { visible: boolean; tier: string; policies: { result: string }[] };
}

const POLICIES = [
  ['indexed', 'INDEXED', `tenant_id = current_setting('app.current_tenant', true)`],
  ['evaluated', 'POSTGRES', `lower(tenant_id) = current_setting('app.current_tenant', true)`],
] as const;

describe.each(POLICIES)('with policies that are %s (tier %s)', (table, tier, policy) => {
  beforeAll(async () => {
    await run(
      server,
      `CREATE TABLE ${table} (id int PRIMARY KEY, tenant_id text, level int); ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
       CREATE POLICY tenant ON ${table} USING (${policy});
       CREATE POLICY level ON ${table} AS RESTRICTIVE
         USING (level <= coalesce(nullif(current_setting('app.level', true), '')::int, 0))`,
    );
    await subscribe(server, table, { table });
  });

  test('members receive the rows of the tenant and level in their claims, whatever their user ID', async () => {
    const clients = [
      await member(table, ADA, tenant('red')),
      await member(table, ADA, tenant('blue')),
      await member(table, BOB, { ...tenant('red'), app_metadata: { level: 5 } }),
      await member(table, BOB, {}),
    ];
    await write(table, [
      [1, 'red', 0],
      [2, 'blue', 0],
      [3, 'red', 5],
      [4, '', 0],
    ]);
    const got = [];
    for (const client of clients) got.push(await idsOf(client));
    expect(got).toEqual([[1], [2], [1, 3], [4]]);
    await Promise.all(clients.map((client) => client.close()));
  });

  test('a refreshed token with another tenant applies from then on', async () => {
    const client = await member(table, ADA, tenant('red'));
    await write(table, [[11, 'red', 0]]);
    expect(await idsOf(client)).toEqual([11]);
    await refresh(client, await tokenOf(ADA, tenant('blue')));
    await write(table, [
      [12, 'red', 0],
      [13, 'blue', 0],
    ]);
    expect(await idsOf(client)).toEqual([11, 13]);
    await client.close();
  });

  test('a client that resumes receives the missed rows of the tenant in its new token', async () => {
    const client = await member(table, ADA, tenant('red'));
    const cursor = encodeURIComponent(client.received[0]?.payload.cursor ?? '');
    await client.close();
    await write(table, [
      [21, 'red', 0],
      [22, 'blue', 0],
    ]);
    for (const [name, id] of [
      ['red', 21],
      ['blue', 22],
    ] as const) {
      const resumed = await member(table, ADA, tenant(name), `cursor=${cursor}`);
      expect(await idsOf(resumed)).toEqual([id]);
      await resumed.close();
    }
  });

  test('a snapshot contains only the rows of the tenant', async () => {
    await write(table, [
      [31, 'green', 0],
      [32, 'green', 1],
      [33, 'red', 0],
    ]);
    const client = await member(table, ADA, tenant('green'));
    const payload = { table, snapshot: true };
    client.send({ type: 'subscribe', event: 'database_changes', payload, ref: 'rows' });
    const { rows } = (await client.next('system', 'snapshot')).payload;
    expect(rows).toEqual([{ id: 31, tenant_id: 'green', level: 0 }]);
    await client.close();
  });

  test('explain evaluates policies for the tenant in the claims', async () => {
    await write(table, [[41, 'red', 0]]);
    const red = await explain(table, { sub: ADA, ...tenant('red') }, 41);
    expect(red).toMatchObject({ visible: true, tier });
    const blue = await explain(table, { sub: ADA, ...tenant('blue') }, 41);
    expect(blue).toMatchObject({ visible: false, tier });
    expect([red, blue].map(({ policies }) => policies.map(({ result }) => result))).toEqual([
      ['true', 'true'],
      ['true', 'false'],
    ]);
  });
});

test('without REALTIME_CLAIM_SETTINGS, policies find no tenant and members receive no rows', async () => {
  const plain = await startRowChangeServer({ REALTIME_JWT_SECRET: SECRET });
  try {
    const policy = `tenant_id = current_setting('app.current_tenant', true)`;
    await run(
      plain,
      `CREATE TABLE notes (id int PRIMARY KEY, tenant_id text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
       CREATE POLICY tenant ON notes USING (${policy})`,
    );
    await subscribe(plain, 'notes', { table: 'notes' });
    const client = await join(plain, 'notes', ADA, { token: await tokenOf(ADA, tenant('red')) });
    await run(plain, `INSERT INTO notes VALUES (1, 'red'); SELECT realtime.send('notes', 'end', '{}')`);
    await client.next('message', 'end');
    expect(client.all('database_change')).toEqual([]);
    await client.close();
  } finally {
    await plain.stop();
  }
});
