import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ADA, BOB, run, subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let id: string;
beforeEach(async () => {
  server = await startRowChangeServer();
  await run(
    server,
    `CREATE TABLE notes (id int PRIMARY KEY, owner uuid, body text, secret text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
     CREATE POLICY own ON notes USING (owner = current_setting('app.current_user_id')::uuid);
     CREATE POLICY public ON notes USING (body = 'public');
     CREATE POLICY kept ON notes AS RESTRICTIVE USING (body <> 'gone');
     INSERT INTO notes VALUES (1, '${ADA}', 'mine', 's'), (2, '${BOB}', 'gone', 's'), (3, NULL, NULL, 's')`,
  );
  id = await subscribe(server, 'lobby', { table: 'notes', condition: 'id < 3' });
});
afterEach(() => server.stop());

async function explain(body: object, role = 'admin') {
  const token = await server.token('root', role);
  const answer = await server.call('POST', '/realtime/explain', { token, body });
  return { status: answer.status, body: answer.body as unknown as Record<string, unknown> };
}

const results = (body: Record<string, unknown>) =>
  Object.fromEntries(
    (body.policies as { name: string; result: string }[]).map(({ name, result }) => [name, result]),
  );

test('explain says that a user receives a row, and why', async () => {
  await join(server, 'lobby', ADA);
  const { status, body } = await explain({ subscription_id: id, user: { sub: ADA }, key: { id: 1 } });
  expect([status, body]).toEqual([
    200,
    expect.objectContaining({
      visible: true,
      reasons: ['These policies let it pass: own (true).'],
      user_id: ADA,
      role: 'realtime_subscriber',
      tier: 'INDEXED',
      condition: { text: 'id < 3', holds: true },
      columns_left_out: [],
      listening: 1,
    }),
  ]);
  expect(results(body)).toEqual({ own: 'true', public: 'false', kept: 'true' });
});

test('explain says that a user does not receive a row, and why', async () => {
  const { body: other } = await explain({ subscription_id: id, user: { sub: BOB }, key: { id: 1 } });
  expect(other).toMatchObject({
    visible: false,
    reasons: ['No policy lets it pass: own (false), public (false).'],
    listening: 0,
  });
  const { body: gone } = await explain({ table: 'notes', user: { sub: BOB }, key: { id: 2 } });
  expect(gone).toMatchObject({
    visible: false,
    reasons: ['These restrictive policies hold it back: kept (false).'],
  });
  const { body: nulls } = await explain({ table: 'notes', user: { sub: 'nobody' }, key: { id: 3 } });
  expect(nulls).toMatchObject({ visible: false });
  expect(results(nulls)).toEqual({ own: 'error', public: 'null', kept: 'null' });
  const { body: beyond } = await explain({
    subscription_id: id,
    user: { sub: ADA },
    row: { id: 7, owner: ADA, body: 'x' },
  });
  expect(beyond).toMatchObject({
    visible: false,
    reasons: ['These policies let it pass: own (true).', 'The condition is not true of the row.'],
  });
});

test('explain takes the numbers of keys and rows as they are written', async () => {
  await run(
    server,
    `CREATE TABLE large (id bigint PRIMARY KEY, n numeric);
     INSERT INTO large VALUES (1152921506151679042, 1), (1152921506151679043, 2)`,
  );
  await subscribe(server, 'lobby', { table: 'large' });
  const token = await server.token('root', 'admin');
  const asked = (values: string, condition: string) =>
    server.call('POST', '/realtime/explain', {
      token,
      body: `{"table":"large","user":{"sub":"${ADA}"},"condition":"${condition}",${values}}`,
    });
  const key = await asked('"key":{"id":1152921506151679043}', 'n = 2');
  expect([key.status, key.body]).toMatchObject([200, { condition: { holds: true } }]);
  const row = await asked('"row":{"id":1152921506151679042,"n":0.10000000000000000001}', 'n > 0.1');
  expect([row.status, row.body]).toMatchObject([200, { condition: { holds: true } }]);
});

test('explain checks the privileges on the table and on its columns', async () => {
  await run(
    server,
    'REVOKE SELECT ON notes FROM realtime_subscriber; GRANT SELECT (id, owner, body) ON notes TO realtime_subscriber',
  );
  const { body } = await explain({ table: 'notes', user: { sub: ADA }, key: { id: 1 } });
  expect(body).toMatchObject({ visible: true, columns_left_out: ['secret'] });
  await run(server, 'REVOKE SELECT (id, owner, body) ON notes FROM realtime_subscriber');
  const { body: denied } = await explain({ table: 'notes', user: { sub: ADA }, key: { id: 1 } });
  expect(denied).toMatchObject({
    visible: false,
    tier: 'CLOSED',
    reasons: [
      'The role realtime_subscriber has no SELECT privilege on public.notes.',
      'Run GRANT SELECT ON TABLE public.notes TO realtime_subscriber;',
    ],
  });
});

test('explain names a missing row, refuses invalid requests, and is for server admins only', async () => {
  const user = { sub: ADA };
  expect((await explain({ table: 'notes', user, key: { id: 9 } })).body).toMatchObject({
    visible: false,
    reasons: ['There is no row with this key.'],
  });
  expect((await explain({ table: 'nothing', user, key: { id: 1 } })).status).toBe(404);
  expect((await explain({ subscription_id: 'sub_none', user, key: { id: 1 } })).status).toBe(404);
  const wrong = [
    { table: 'notes', user: {}, key: { id: 1 } },
    { table: 'notes', user },
    { table: 'notes', user, key: { 'id" OR true --': 1 } },
    { table: 'notes', user, row: { id: 'x' } },
    { table: 'notes', user, row: { id: 1 }, condition: 'nonsense(' },
  ];
  for (const body of wrong) expect((await explain(body)).status).toBe(400);
  expect((await explain({ table: 'notes', user, key: { id: 1 } }, 'user')).status).toBe(403);
});

test('explain answers while the catalog changes', async () => {
  const question = { subscription_id: id, user: { sub: ADA }, key: { id: 1 } };
  const statuses: number[] = [];
  for (let n = 0; n < 25; n++) {
    const alter = `ALTER TABLE notes ALTER secret SET DEFAULT '${n}'`;
    const [{ status }] = await Promise.all([explain(question), run(server, alter)]);
    statuses.push(status);
  }
  expect(new Set(statuses)).toEqual(new Set([200]));
});

describe('explaining a change by its cursor', () => {
  /** Runs a statement and returns the cursor of its change, as a client that sees every row receives it. */
  async function cursorOf(statement: string): Promise<string> {
    const witness = await join(server, 'witness', ADA);
    await run(server, statement);
    const { cursor = '' } = await witness.next('database_change');
    await witness.close();
    return cursor;
  }

  beforeEach(async () => {
    // Every user sees every row, so that a client receives the cursor. `ask` drops this policy first.
    await subscribe(server, 'witness', { table: 'notes' });
    await run(server, `CREATE POLICY witness ON notes USING (true); DROP POLICY kept ON notes`);
  });

  const ask = async (at: string, others: object = {}, user: object = { sub: ADA }) => {
    await run(server, 'DROP POLICY IF EXISTS witness ON notes');
    const { status, body } = await explain({ at, user, ...others });
    return { status, ...body } as Record<string, unknown>;
  };

  test('says what the user receives, and why, for the old and the new version of the row', async () => {
    const at = await cursorOf(`UPDATE notes SET owner = '${BOB}' WHERE id = 1`);
    const ada = await ask(at);
    expect(ada).toMatchObject({
      visible: true,
      change: { event: 'UPDATE', gets: 'lost', old_version: { visible: true } },
      reasons: [
        'New version: No policy lets it pass: own (false), public (false).',
        'Old version: These policies let it pass: own (true).',
      ],
    });
    expect(results(ada)).toEqual({ own: 'false', public: 'false' });
    expect(await ask(at, {}, { sub: BOB })).toMatchObject({ change: { gets: 'gained' }, visible: true });
    const nobody = await ask(at, {}, { sub: '33333333-3333-4333-8333-333333333333' });
    expect(nobody).toMatchObject({ change: { event: 'UPDATE', gets: 'nothing' }, visible: false });
    expect(await ask(at, { subscription_id: id })).toMatchObject({
      condition: { text: 'id < 3', holds: true },
      listening: 0,
    });
  });

  test.each([
    [`INSERT INTO notes VALUES (9, '${ADA}', 'x', 's')`, { event: 'INSERT', gets: 'INSERT' }],
    [`DELETE FROM notes WHERE id = 1`, { event: 'DELETE', gets: 'DELETE' }],
    [`DELETE FROM notes WHERE id = 2`, { event: 'DELETE', gets: 'nothing' }],
    [`TRUNCATE notes`, { event: 'TRUNCATE', gets: 'TRUNCATE' }],
  ])('says what the user receives of %s', async (statement, change) => {
    const answer = await ask(await cursorOf(statement));
    expect(answer).toMatchObject({ status: 200, change, visible: change.gets !== 'nothing' });
  });

  test('names an event that the subscription leaves out, and refuses another table and unknown cursors', async () => {
    const inserts = await subscribe(server, 'lobby', { table: 'notes', events: ['INSERT'] });
    const at = await cursorOf(`UPDATE notes SET body = 'y' WHERE id = 1`);
    expect(await ask(at, { subscription_id: inserts })).toMatchObject({
      visible: false,
      reasons: ['The subscription is not for UPDATE.'],
      change: { event: 'UPDATE', gets: 'nothing' },
    });
    await run(server, 'CREATE TABLE others (id int PRIMARY KEY)');
    expect(await ask(at, { table: 'others' })).toMatchObject({
      status: 400,
      details: "The change is of 'notes', not of 'others'",
    });
    const [epoch, lsn] = [at.slice(0, at.indexOf(':')), at.slice(at.indexOf(':') + 1)];
    for (const wrong of ['x', `none:${lsn}`, `${epoch}:0/1/0`, `${epoch}:FF/FF/0`])
      expect(await ask(wrong)).toMatchObject({ status: 400, code: 'VALIDATION_FAILED', field: 'at' });
  });

  test('uses the values of generated columns, which the WAL does not carry', async () => {
    await run(
      server,
      `ALTER TABLE notes ADD mine text GENERATED ALWAYS AS (body || '!') STORED; ALTER POLICY public ON notes USING (mine = 'yes!')`,
    );
    const at = await cursorOf(`INSERT INTO notes VALUES (9, '${BOB}', 'yes', 's')`);
    const answer = await ask(at);
    expect(answer).toMatchObject({ visible: true, reasons: ['These policies let it pass: public (true).'] });
  });
});
