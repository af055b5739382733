import { afterEach, beforeEach, expect, test } from 'vitest';
import { run, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
beforeEach(async () => {
  server = await startRowChangeServer();
});
afterEach(() => server.stop());

/** A value in which it takes more steps to find the names than a row has for four searches. */
const LARGE = `repeat('a', 700000) || 'ada bob cid dan'`;

/** Returns the ids of the rows that each client has received, once all of them have been delivered. */
async function received(channel: string, clients: readonly TestClient[]): Promise<unknown[][]> {
  await run(server, `SELECT realtime.send('${channel}', 'end', '{}')`);
  const ids: unknown[][] = [];
  for (const client of clients) {
    await client.next('message', 'end');
    ids.push(client.all('database_change').map(({ payload }) => payload.change.new_record?.id));
  }
  return ids;
}

test('a large row reaches exactly the users that a policy with LIKE shows it to, and small ones beside it', async () => {
  await run(
    server,
    `CREATE TABLE notes (id int PRIMARY KEY, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
     CREATE POLICY named ON notes USING (body LIKE '%' || current_setting('app.current_user_id') || '%')`,
  );
  await subscribe(server, 'lobby', { table: 'notes', columns: ['id'] });
  const clients = await Promise.all(
    ['ada', 'bob', 'cid', 'dan', 'eve'].map((user) => join(server, 'lobby', user)),
  );
  await run(server, `INSERT INTO notes VALUES (1, 'cid eve'), (2, ${LARGE}), (3, 'ada')`);
  expect(await received('lobby', clients)).toEqual([[2, 3], [2], [1, 2], [2], [1]]);
});

test.each([
  ['decides', ''],
  ['leaves to PostgreSQL', '_'.repeat(100)],
])(
  'a large row matches exactly the conditions with LIKE that are true of it, which the server %s',
  async (_, any) => {
    await run(server, 'CREATE TABLE notes (id int PRIMARY KEY, body text)');
    const names = ['ada', 'bob', 'cid', 'dan', 'eve'];
    for (const name of names)
      await subscribe(server, name, {
        table: 'notes',
        columns: ['id'],
        condition: `body LIKE '%${any}${name}%'`,
      });
    await subscribe(server, 'not', {
      table: 'notes',
      columns: ['id'],
      condition: `body NOT LIKE '%${any}eve%'`,
    });
    const channels = [...names, 'not'];
    const clients = await Promise.all(channels.map((channel) => join(server, channel, 'ada')));
    await run(server, `INSERT INTO notes VALUES (1, 'cid eve'), (2, ${LARGE}), (3, 'ada')`);
    const all = await Promise.all(channels.map((channel, n) => received(channel, clients.slice(n, n + 1))));
    const small = (id: number) => (any === '' ? [id] : []);
    expect(all.flat()).toEqual([
      [2, ...small(3)],
      [2],
      [...small(1), 2],
      [2],
      small(1),
      any === '' ? [2, 3] : [1, 2, 3],
    ]);
  },
);
