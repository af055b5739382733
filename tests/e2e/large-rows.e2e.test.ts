import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { changeSources } from '../support/matrix.js';
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

/** Returns what a client has got of row changes and gaps, once all of it has been delivered: ids of rows, or the gap. */
async function changesAndGaps(client: TestClient): Promise<unknown[]> {
  await client.next('message', 'end');
  return client.received
    .filter(({ type, event }) => type === 'database_change' || event === 'gap')
    .map(({ event, payload, cursor }) =>
      event === 'gap'
        ? { ...payload, hasCursor: cursor !== undefined }
        : (payload.change.new_record ?? payload.change.old_record)?.id,
    );
}

describe.each(changeSources('logical', 'trigger'))('a row of 40 MB, read by the %s source', (source) => {
  test('is a gap to those who would get it, in its place and with its cursor; small columns of it, and other rows, arrive', async () => {
    await server.stop();
    server = await startRowChangeServer({ REALTIME_CHANGE_SOURCE: source });
    await run(
      server,
      `CREATE TABLE notes (id int PRIMARY KEY, owner text, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
       CREATE POLICY own ON notes USING (owner = current_setting('app.current_user_id'))`,
    );
    const whole = await subscribe(server, 'lobby', { table: 'notes' });
    await subscribe(server, 'ids', { table: 'notes', columns: ['id'] });
    const reader = await join(server, 'lobby', 'ada');
    const idReader = await join(server, 'ids', 'ada');
    const other = await join(server, 'lobby', 'bob');
    await run(
      server,
      `INSERT INTO notes VALUES (1, 'ada', 'a'), (2, 'ada', repeat('a', 40000000)), (3, 'bob', 'b'), (4, 'ada', 'd');
       SELECT realtime.send('lobby', 'end', '{}'); SELECT realtime.send('ids', 'end', '{}')`,
    );
    const gap = {
      scope: 'changes',
      reason: 'a change is too large to send',
      subscription_ids: [whole],
      hasCursor: true,
    };
    expect(await changesAndGaps(reader)).toEqual([1, gap, 4]);
    expect(await changesAndGaps(idReader)).toEqual([1, 2, 4]);
    expect(await changesAndGaps(other)).toEqual([3]);
    // Resuming at the gap continues after it.
    const cursor = reader.all('system', 'gap')[0]?.cursor ?? '';
    const returned = await join(server, 'lobby', 'ada', { query: `cursor=${cursor}` });
    expect(await changesAndGaps(returned)).toEqual([4]);
  });
});

test('REALTIME_MAX_CHANGE_SIZE: the largest message that is sent, as it is encoded', async () => {
  await server.stop();
  server = await startRowChangeServer({ REALTIME_MAX_CHANGE_SIZE: '10KB' });
  await run(server, 'CREATE TABLE notes (id int PRIMARY KEY, body text)');
  const id = await subscribe(server, 'lobby', { table: 'notes' });
  const client = await join(server, 'lobby', 'ada');
  await run(
    server,
    `INSERT INTO notes VALUES (1, repeat('a', 9000)), (2, repeat('a', 10300)), (3, repeat(chr(1), 9000)), (4, repeat(chr(1), 1500));
     UPDATE notes SET id = 5 WHERE id = 1; UPDATE notes SET id = 6 WHERE id = 4; DELETE FROM notes WHERE id = 2;
     SELECT realtime.send('lobby', 'end', '{}')`,
  );
  const gap = expect.objectContaining({ reason: 'a change is too large to send' });
  expect(await changesAndGaps(client)).toEqual([1, gap, gap, 4, gap, gap, gap]);
  const token = await server.token('root', 'admin');
  const { body } = await server.call('GET', `/realtime/subscriptions/${id}`, { token });
  expect(body).toMatchObject({ message_count: 2, counts: { delivered: 2, error: 5 } });
  const metrics = await server.call('GET', '/metrics', { token });
  expect(metrics.text).toMatch(/^realtime_changes_too_large_total 5$/m);
});

test('a row with a value of over 64 MB stops nobody, and is a gap also where a condition would have to read the value', async () => {
  await run(
    server,
    `CREATE TABLE notes (id int PRIMARY KEY, owner text, body text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
     CREATE POLICY own ON notes USING (owner = current_setting('app.current_user_id'))`,
  );
  const conditions = { long: 'length(body) > 3', a: `body LIKE 'a%'`, ids: 'id > 0', one: `body = 'abcd'` };
  const clients: [string, TestClient, TestClient][] = [];
  for (const [channel, condition] of Object.entries(conditions)) {
    await subscribe(server, channel, { table: 'notes', columns: ['id'], condition });
    clients.push([channel, await join(server, channel, 'ada'), await join(server, channel, 'bob')]);
  }
  await run(
    server,
    `INSERT INTO notes VALUES (1, 'ada', repeat('a', 70000000)), (2, 'ada', 'abcd');
     ${Object.keys(conditions)
       .map((channel) => `SELECT realtime.send('${channel}', 'end', '{}')`)
       .join(';')}`,
  );
  const gap = expect.objectContaining({ reason: 'a change is too large to send' });
  const expected: Record<string, unknown[]> = { long: [gap, 2], a: [gap, 2], ids: [1, 2], one: [2] };
  for (const [channel, ada, bob] of clients) {
    expect([channel, await changesAndGaps(ada)]).toEqual([channel, expected[channel]]);
    expect(await changesAndGaps(bob)).toEqual([]);
  }
});
