import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { postgresVersions } from '../support/matrix.js';
import { ADA, BOB, MESSAGES, nextChange, run, subscribe } from '../support/row-changes.js';
import { join, type Received, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;

async function enableTable(table: string): Promise<void> {
  const token = await server.token('root', 'admin');
  expect((await server.call('POST', `/realtime/triggers/${table}`, { token, body: {} })).status).toBe(200);
}

/** Sends a request about row changes and returns its reply. */
async function request(
  member: TestClient,
  type: 'subscribe' | 'unsubscribe',
  payload: object,
): Promise<Received> {
  const ref = `ask-${Math.random()}`;
  member.send({ type, event: 'database_changes', payload, ref });
  return member.next('reply', undefined, (message) => message.ref === ref);
}

/** Adds a personal subscription and returns its id. */
async function subscribePersonally(member: TestClient, filter: object): Promise<string> {
  const { event, payload } = await request(member, 'subscribe', filter);
  expect([event, payload]).toEqual(['ok', { subscription_id: expect.stringMatching(/^sub_[a-z0-9]+$/) }]);
  return payload.subscription_id ?? '';
}

/** Returns the rows of a snapshot, from all its pages. */
async function snapshotRows(member: TestClient, id: string): Promise<Readonly<Record<string, unknown>>[]> {
  const rows: Readonly<Record<string, unknown>>[] = [];
  for (;;) {
    const { payload } = await member.next('system', 'snapshot');
    expect(payload.subscription_id).toBe(id);
    rows.push(...(payload.rows ?? []));
    if (!payload.more) return rows;
  }
}

const VERSIONS = postgresVersions('newest');

describe.each(VERSIONS)('personal subscriptions on the %s PostgreSQL', (postgres) => {
  beforeEach(async () => {
    server = await startRowChangeServer({}, { postgres });
  });
  afterEach(() => server.stop());

  test('are limited to 20 for a connection and 200 for a user', async () => {
    await run(server, 'CREATE TABLE notes (id int PRIMARY KEY)');
    await enableTable('notes');
    const refused = (limit: number) => ({ code: 'DB_SUBSCRIPTION_FAILED', limit });
    const clients: TestClient[] = [];
    for (let n = 0; n < 10; n++) {
      const client = await join(server, 'lobby', ADA);
      clients.push(client);
      for (let m = 0; m < 20; m++)
        await subscribePersonally(client, { table: 'notes', condition: `id = ${m}` });
    }
    const [first, another] = [clients[0], await join(server, 'lobby', ADA)];
    if (first === undefined) throw new Error('no client has joined');
    expect((await request(first, 'subscribe', { table: 'notes' })).payload).toMatchObject(refused(20));
    expect((await request(another, 'subscribe', { table: 'notes' })).payload).toMatchObject(refused(200));
    await subscribePersonally(await join(server, 'lobby', BOB), { table: 'notes' });
    await request(first, 'unsubscribe', {});
    await subscribePersonally(another, { table: 'notes' });
  });

  test('send changes to their own connection only, and end when it unsubscribes', async () => {
    await run(server, 'CREATE TABLE notes (id int PRIMARY KEY)');
    await enableTable('notes');
    const [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', ADA)];
    const id = await subscribePersonally(ada, { table: 'notes', events: ['INSERT'], condition: 'id > 1' });
    await run(server, 'INSERT INTO notes VALUES (1), (2); DELETE FROM notes WHERE id = 2');
    const { payload } = await ada.next('database_change');
    expect([payload.change.new_record, payload.subscription_ids]).toEqual([{ id: 2 }, [id]]);
    const second = await subscribePersonally(ada, { table: 'notes' });
    await run(server, 'INSERT INTO notes VALUES (3)');
    expect((await ada.next('database_change')).payload.subscription_ids).toEqual([id, second]);
    expect((await request(ada, 'unsubscribe', { id })).event).toBe('ok');
    expect((await request(ada, 'unsubscribe', { id })).payload.code).toBe('SUBSCRIPTION_NOT_FOUND');
    await run(server, 'INSERT INTO notes VALUES (4)');
    expect((await ada.next('database_change')).payload.subscription_ids).toEqual([second]);
    expect((await request(ada, 'unsubscribe', {})).event).toBe('ok');
    await run(server, `INSERT INTO notes VALUES (5); SELECT realtime.send('lobby', 'end', '{}')`);
    await bob.next('message', 'end');
    await subscribePersonally(ada, { table: 'notes' });
    await run(server, 'INSERT INTO notes VALUES (6)');
    expect((await nextChange(ada)).new_record).toEqual({ id: 6 });
    await bob.settle();
    expect(bob.all('database_change')).toEqual([]);
  });

  test('share a message with subscriptions of the channel, in one order with other tables', async () => {
    await run(
      server,
      'CREATE TABLE a (id int PRIMARY KEY, x int, y int); CREATE TABLE b (id int PRIMARY KEY)',
    );
    const ofChannel = await subscribe(server, 'lobby', { table: 'a', columns: ['x'] });
    await subscribe(server, 'lobby', { table: 'b' });
    const [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
    const own = await subscribePersonally(ada, { table: 'a', columns: ['id'] });
    await run(
      server,
      'BEGIN; INSERT INTO a VALUES (1, 2, 3); INSERT INTO b VALUES (1); INSERT INTO a VALUES (4, 5, 6); COMMIT',
    );
    const seen = (await ada.take(3, 'database_change')).map(({ payload }) => [
      payload.change.table,
      payload.change.new_record,
      payload.subscription_ids?.length,
    ]);
    expect(seen).toEqual([
      ['a', { id: 1, x: 2 }, 2],
      ['b', { id: 1 }, 1],
      ['a', { id: 4, x: 5 }, 2],
    ]);
    expect(ada.all('database_change')[0]?.payload.subscription_ids).toEqual([ofChannel, own]);
    expect((await nextChange(bob)).new_record).toEqual({ x: 2 });
  });

  test('begin with a snapshot of the rows that the user may see, in the format of row changes', async () => {
    await run(
      server,
      `${MESSAGES} ALTER TABLE messages ADD COLUMN data jsonb DEFAULT '{"n": 12345678901234567890}', ADD COLUMN tags text[] DEFAULT '{a,"b c"}', ADD COLUMN amount numeric DEFAULT 1.50;
       INSERT INTO messages (content, user_id) SELECT 'row ' || n, (ARRAY['${ADA}', '${BOB}'])[1 + n % 2]::uuid FROM generate_series(1, 900) n;
       INSERT INTO messages (content, user_id, tags) VALUES (NULL, '${ADA}', NULL)`,
    );
    await enableTable('messages');
    const ada = await join(server, 'lobby', ADA);
    const id = await subscribePersonally(ada, { table: 'messages', snapshot: true });
    const rows = await snapshotRows(ada, id);
    expect(rows.length).toBe(451);
    expect(ada.all('system', 'snapshot').length).toBeGreaterThan(1);
    await run(server, `INSERT INTO messages (content, user_id) VALUES ('new', '${ADA}')`);
    const { new_record: record } = await nextChange(ada);
    const { id: _id, created_at: _at, content: _content, ...others } = record ?? {};
    expect(rows[0]).toMatchObject(others);
    expect(rows.find(({ content }) => content === null)).toMatchObject({ tags: null, amount: 1.5 });
    expect(Object.keys(rows[0] ?? {})).toEqual(Object.keys(record ?? {}));
    const some = await subscribePersonally(ada, {
      table: 'messages',
      snapshot: true,
      columns: ['content'],
      condition: 'id = 2',
    });
    expect(await snapshotRows(ada, some)).toEqual([{ content: 'row 2' }]);
    const none = await subscribePersonally(ada, { table: 'messages', snapshot: true, condition: 'id < 0' });
    expect(await snapshotRows(ada, none)).toEqual([]);
  });

  test('lose and repeat no row between snapshot and changes while rows are written', async () => {
    await run(server, 'CREATE TABLE ledger (writer int, seq int, PRIMARY KEY (writer, seq))');
    await enableTable('ledger');
    let isStopping = false;
    const write = async (writer: number) => {
      for (let seq = 0; !isStopping; seq += 3)
        await run(server, `INSERT INTO ledger SELECT ${writer}, ${seq} + n FROM generate_series(1, 3) n`);
    };
    const writing = [1, 2, 3].map(write);
    const members: [TestClient, string][] = [];
    try {
      for (let n = 0; n < 12; n++) {
        const member = await join(server, 'lobby', ADA);
        members.push([member, await subscribePersonally(member, { table: 'ledger', snapshot: true })]);
      }
    } finally {
      isStopping = true;
      await Promise.all(writing);
    }
    await run(server, 'INSERT INTO ledger VALUES (0, 0)');
    const committed = (
      await run<{ key: string }>(server, `SELECT writer || '/' || seq AS key FROM ledger ORDER BY 1`)
    ).map(({ key }) => key);
    for (const [member, id] of members) {
      expect(member.all('system', 'gap')).toEqual([]);
      const keys = (await snapshotRows(member, id)).map(
        ({ writer, seq }) => `${String(writer)}/${String(seq)}`,
      );
      while (!keys.includes('0/0')) {
        const { new_record: row } = await nextChange(member);
        keys.push(`${String(row?.writer)}/${String(row?.seq)}`);
      }
      expect(keys.sort((a, b) => (a < b ? -1 : 1))).toEqual([...committed].sort((a, b) => (a < b ? -1 : 1)));
    }
  });

  test('that are refused get the reason, and do not count towards the limit', async () => {
    await run(
      server,
      `CREATE TABLE notes (id int PRIMARY KEY); CREATE TABLE large (id int PRIMARY KEY);
       INSERT INTO large SELECT generate_series(1, 10001)`,
    );
    const ada = await join(server, 'lobby', ADA);
    const refused = async (payload: object) => (await request(ada, 'subscribe', payload)).payload;
    expect(await refused({ table: 'notes' })).toMatchObject({ code: 'DB_SUBSCRIPTION_FAILED' });
    await enableTable('notes');
    await enableTable('large');
    expect((await refused({ table: 'nowhere' })).details).toContain('does not exist');
    expect(await refused({ table: 'notes', colums: ['id'] })).toMatchObject({ code: 'VALIDATION_FAILED' });
    expect((await refused({ table: 'notes', condition: 'id = ' })).details).toContain('syntax error');
    expect((await refused({ table: 'large', snapshot: true })).details).toContain('at most 10000 rows');
    // The refused subscriptions above do not count.
    for (let n = 0; n < 20; n++) await subscribePersonally(ada, { table: 'notes', condition: `id = ${n}` });
    expect(await refused({ table: 'notes' })).toMatchObject({ code: 'DB_SUBSCRIPTION_FAILED', limit: 20 });
    await run(server, 'INSERT INTO notes VALUES (7)');
    expect((await nextChange(ada)).new_record).toEqual({ id: 7 });
    ada.send({ type: 'subscribe', event: 'something', ref: 1 });
    await eventually(() => expect(ada.all('reply', 'error').at(-1)?.payload.field).toBe('event'));
  });
});
