import { afterEach, beforeEach, expect, test } from 'vitest';
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

test('who gets a row, and why', async () => {
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

test('who does not get it, and why not', async () => {
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

test('rights to the table and to columns', async () => {
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
    reasons: ['The role may not read the table.'],
  });
});

test('what is asked wrongly is an error in words, and only a server admin may ask', async () => {
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
