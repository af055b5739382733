import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dropSlot } from '../support/postgres-database.js';
import { ADA, nextChange, run, subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
let owner: string;

beforeAll(async () => {
  server = await startRowChangeServer();
  [admin, owner] = [await server.token('root', 'admin'), await server.token('olga', 'owner')];
  await run(
    server,
    'CREATE TABLE notes (id int PRIMARY KEY, content text, made int GENERATED ALWAYS AS (id + 1) STORED)',
  );
  await server.call('POST', '/realtime/triggers/notes', { token: admin, body: {} });
  await server.call('POST', '/realtime/channels', {
    token: admin,
    body: { name: 'owned', permissions: { admin: ['owner'] } },
  });
});
afterAll(() => server.stop());

const request = (channel: string, body: unknown, token = owner) =>
  server.call('POST', `/realtime/channels/${channel}/subscribe`, { token, body });
const list = async (token: string) => (await server.call('GET', '/realtime/subscriptions', { token })).body;

describe('subscribing a channel', () => {
  test('returns the filter with its defaults, and for an equal filter the same subscription', async () => {
    const answer = await request('owned', { table: 'notes' });
    expect([answer.status, answer.body]).toEqual([
      200,
      {
        message: 'subscribed to database changes',
        channel: 'owned',
        filter: { table: 'notes', schema: 'public', events: ['INSERT', 'UPDATE', 'DELETE'] },
        subscription_id: expect.stringMatching(/^sub_\d+_[a-z0-9]+$/),
      },
    ]);
    const both = await Promise.all([
      request('owned', { table: 'notes', events: ['DELETE', 'INSERT', 'UPDATE'] }),
      request('owned', { table: 'notes', schema: 'public' }),
    ]);
    const ids = both.map(({ body }) => body.subscription_id);
    expect(ids).toEqual([answer.body.subscription_id, answer.body.subscription_id]);
    const concurrent = await Promise.all(
      Array.from({ length: 5 }, () => request('owned', { table: 'notes', condition: 'id > 7' })),
    );
    expect(new Set(concurrent.map(({ body }) => body.subscription_id)).size).toBe(1);
  });

  test.each([
    [{ table: 'nonexistent' }, "Table 'nonexistent' does not exist"],
    [{ table: 'notes', columns: ['colour'] }, "Column 'colour' does not exist"],
    [{ table: 'notes', columns: ['made'] }, 'is generated'],
    [{ table: 'notes', condition: 'colour = 1' }, "Column 'colour' does not exist"],
    [{ table: 'notes', condition: 'id = ' }, 'syntax error'],
    [{ table: 'notes', condition: 'id + 1' }, 'argument of WHERE must be type boolean'],
    [{ table: 'notes', condition: `id = 'x'` }, 'invalid input syntax for type integer'],
    [{ table: 'notes', condition: 'content > id' }, 'operator does not exist'],
    [{ table: 'notes', condition: '(SELECT true)' }, 'cannot contain sub-selects'],
  ])('with %j fails with the reason', async (filter, reason) => {
    const { status, body } = await request('owned', filter);
    expect([status, body]).toEqual([
      400,
      expect.objectContaining({
        error: 'failed to subscribe to database changes',
        code: 'DB_SUBSCRIPTION_FAILED',
        details: expect.stringContaining(reason),
      }),
    ]);
  });

  test.each([
    [{ table: 'notes', colums: ['id'] }, 'colums'],
    [{ table: 'notes', events: ['TRUNCATE'] }, 'events.0'],
    [{ table: 'notes', events: [] }, 'events'],
    [{ table: 7 }, 'table'],
    [{}, 'table'],
  ])('with %j fails validation', async (filter, field) => {
    const { status, body } = await request('owned', filter);
    expect([status, body.code, body.field]).toEqual([400, 'VALIDATION_FAILED', field]);
  });

  test('to a disabled table names the call that enables it, or enables it for a server admin', async () => {
    await run(server, 'CREATE TABLE later (id int PRIMARY KEY)');
    const refused = await request('owned', { table: 'later' });
    expect([refused.status, refused.body.details]).toEqual([
      400,
      expect.stringContaining('POST /realtime/triggers/later'),
    ]);
    const wrong = await request('owned', { table: 'later', condition: 'nothing = 1' }, admin);
    expect(wrong.status).toBe(400);
    const triggers = async () =>
      (await server.call('GET', '/realtime/triggers', { token: admin })).body.triggers;
    expect((await triggers()).map(({ table }) => table)).toEqual(['notes']);
    const enabled = await request('owned', { table: 'later' }, admin);
    expect([enabled.status, (await triggers()).map(({ table }) => table)]).toEqual([200, ['later', 'notes']]);
  });

  test('is refused when the condition reads a column that the role may not read', async () => {
    await run(server, `CREATE TABLE guarded (id int PRIMARY KEY, secret text)`);
    await server.call('POST', '/realtime/triggers/guarded', { token: admin, body: {} });
    await run(
      server,
      'REVOKE SELECT ON guarded FROM realtime_subscriber; GRANT SELECT (id) ON guarded TO realtime_subscriber',
    );
    const { status, body } = await request('owned', { table: 'guarded', condition: `secret = 'x'` });
    expect([status, body.details]).toEqual([400, 'permission denied for column secret']);
    expect((await request('owned', { table: 'guarded', condition: 'id = 1' })).status).toBe(200);
  });

  test('needs admin permission on the channel', async () => {
    const { status, body } = await request('owned', { table: 'notes' }, await server.token('ada'));
    expect([status, body.required_permission]).toEqual([403, 'admin']);
    expect((await request('nowhere', { table: 'notes' }, admin)).body.code).toBe('CHANNEL_NOT_FOUND');
  });
});

describe('subscriptions', () => {
  test('are listed to their creator, and all to a server admin, with the number of messages sent', async () => {
    const id = await subscribe(server, 'counted', { table: 'notes', columns: ['id'] });
    const ada = await join(server, 'counted', ADA);
    await run(server, `INSERT INTO notes (id) VALUES (1), (2)`);
    await nextChange(ada);
    await nextChange(ada);
    const own = await list(owner);
    expect(own.subscriptions.every(({ user_id }) => user_id === 'olga')).toBe(true);
    const all = await list(admin);
    expect(all.total).toBe(all.subscriptions.length);
    expect(all.subscriptions.find((subscription) => subscription.id === id)).toEqual({
      id,
      channel_name: 'counted',
      filter: { table: 'notes', schema: 'public', events: ['INSERT', 'UPDATE', 'DELETE'], columns: ['id'] },
      user_id: 'root',
      created_at: expect.any(String),
      last_activity: expect.any(String),
      message_count: 2,
      active: true,
      removable: true,
    });
  });

  test('are listed with whether the caller may end them', async () => {
    const lists = { name: 'handed-over', permissions: { admin: ['owner'] } };
    await server.call('POST', '/realtime/channels', { token: admin, body: lists });
    await request('handed-over', { table: 'notes' });
    const removable = async (token: string) =>
      (await list(token)).subscriptions.find(({ channel_name }) => channel_name === 'handed-over')?.removable;
    expect(await removable(owner)).toBe(true);
    expect(await removable(await server.token('olga', 'user'))).toBe(false);
  });

  test('end by id, with admin permission on the channel, or together with the channel', async () => {
    const id = (await request('owned', { table: 'notes', columns: ['id'] })).body.subscription_id;
    const end = (token: string) => server.call('DELETE', `/realtime/subscriptions/${id}`, { token });
    expect((await end(await server.token('ada'))).body.required_permission).toBe('admin');
    expect((await end(owner)).status).toBe(200);
    expect((await end(owner)).body.code).toBe('SUBSCRIPTION_NOT_FOUND');
    await subscribe(server, 'short', { table: 'notes' });
    await server.call('DELETE', '/realtime/channels/short', { token: admin });
    expect((await list(admin)).subscriptions.some(({ channel_name }) => channel_name === 'short')).toBe(
      false,
    );
    await server.call('POST', '/realtime/channels', { token: admin, body: { name: 'short' } });
    expect((await list(admin)).subscriptions.some(({ channel_name }) => channel_name === 'short')).toBe(
      false,
    );
  });

  test('make an automatic channel permanent', async () => {
    const ada = await join(server, 'automatic', ADA);
    expect((await request('automatic', { table: 'notes', columns: ['id'] }, admin)).status).toBe(200);
    expect(await run(server, `SELECT name FROM realtime.channels WHERE name = 'automatic'`)).toHaveLength(1);
    await run(server, `INSERT INTO notes (id) VALUES (3)`);
    expect((await nextChange(ada)).new_record).toEqual({ id: 3 });
  });

  test('survive a restart with their conditions', async () => {
    const slot = 'test_subscriptions_restart';
    const first = await startRowChangeServer({ REALTIME_REPLICATION_SLOT: slot });
    await run(first, 'CREATE TABLE kept (id int PRIMARY KEY)');
    const id = await subscribe(first, 'kept', { table: 'kept', condition: 'id > 1' });
    const databaseUrl = first.databaseUrl;
    await first.stop(async () => {
      const second = await startRowChangeServer({
        REALTIME_REPLICATION_SLOT: slot,
        DATABASE_URL: databaseUrl,
      });
      try {
        const ada = await join(second, 'kept', ADA);
        await run(second, 'INSERT INTO kept VALUES (1), (2)');
        const message = await ada.next('database_change');
        expect([message.payload.change.new_record, message.payload.subscription_ids]).toEqual([
          { id: 2 },
          [id],
        ]);
      } finally {
        await second.stop();
        await dropSlot(databaseUrl, slot);
      }
    });
  });
});
