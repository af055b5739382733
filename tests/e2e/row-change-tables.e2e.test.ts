import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADA, nextChange, run, subscribe, takeChanges } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let admin: string;
let user: string;

beforeAll(async () => {
  server = await startRowChangeServer({
    REALTIME_FILTER_TABLES: '',
    REALTIME_EXCLUDE_TABLES: 'secrets, private.logs',
  });
  [admin, user] = [await server.token('root', 'admin'), await server.token('ada')];
});
afterAll(() => server.stop());

const enable = (table: string, body: unknown = {}, token = admin) =>
  server.call('POST', `/realtime/triggers/${table}`, { token, body });
const disable = (table: string) => server.call('DELETE', `/realtime/triggers/${table}`, { token: admin });

/** Returns what enabling and disabling a table change in PostgreSQL. */
async function state(table: string) {
  const [row] = await run<object>(
    server,
    `SELECT relreplident AS identity,
       EXISTS (SELECT FROM pg_publication_tables WHERE tablename = relname) AS published,
       coalesce(relacl::text, '') LIKE '%realtime_subscriber=r%' AS readable
     FROM pg_class WHERE relname = '${table}'`,
  );
  return row;
}

describe('a table', () => {
  test('is enabled once, listed, and has its previous settings restored when it is disabled', async () => {
    await run(server, 'CREATE TABLE notes (id int PRIMARY KEY, content text)');
    const before = await state('notes');
    const first = await enable('notes');
    expect([first.status, first.body]).toEqual([
      200,
      {
        message: 'trigger setup successfully',
        table: 'notes',
        warnings: [
          expect.stringContaining('REPLICA IDENTITY FULL'),
          expect.stringContaining('Row level security is off'),
        ],
      },
    ]);
    expect(await state('notes')).toEqual({ identity: 'f', published: true, readable: true });
    expect((await enable('notes')).body.message).toBe('trigger setup successfully');
    const { body } = await server.call('GET', '/realtime/triggers', { token: admin });
    expect(body).toMatchObject({
      triggers: [{ table: 'notes', schema: 'public', source: 'logical', active: true, subscriptions: 0 }],
      total: 1,
    });
    const removed = await disable('notes');
    expect([removed.status, removed.body]).toEqual([
      200,
      { message: 'trigger removed successfully', table: 'notes' },
    ]);
    expect(await state('notes')).toEqual(before);
    const again = await disable('notes');
    expect([again.status, again.body.code]).toEqual([404, 'TRIGGER_NOT_FOUND']);
  });

  test('keeps its replica identity with identity "keep"', async () => {
    await run(server, 'CREATE TABLE kept (id int PRIMARY KEY)');
    const answer = await enable('kept', { identity: 'keep' });
    expect(answer.body).toMatchObject({
      warnings: [expect.stringContaining('Without REPLICA IDENTITY FULL'), expect.anything()],
    });
    expect(await state('kept')).toEqual({ identity: 'd', published: true, readable: true });
    await disable('kept');
  });

  test.each([
    ['nothing', 404, 'TABLE_NOT_FOUND'],
    ['secrets', 403, 'TABLE_NOT_ALLOWED'],
    ['logs?schema=private', 403, 'TABLE_NOT_ALLOWED'],
    ['pg_class?schema=pg_catalog', 403, 'TABLE_NOT_ALLOWED'],
    ['channels?schema=realtime', 403, 'TABLE_NOT_ALLOWED'],
    ['a_view', 403, 'TABLE_NOT_ALLOWED'],
    ['unlogged', 403, 'TABLE_NOT_ALLOWED'],
    ['keyless_partitioned', 403, 'TABLE_NOT_ALLOWED'],
    ['part_1', 403, 'TABLE_NOT_ALLOWED'],
  ])('named %s is refused with %s %s', async (table, status, code) => {
    await run(
      server,
      `CREATE TABLE IF NOT EXISTS secrets (id int PRIMARY KEY); CREATE SCHEMA IF NOT EXISTS private;
       CREATE TABLE IF NOT EXISTS private.logs (id int PRIMARY KEY); CREATE OR REPLACE VIEW a_view AS SELECT 1 AS one;
       CREATE UNLOGGED TABLE IF NOT EXISTS unlogged (id int PRIMARY KEY);
       CREATE TABLE IF NOT EXISTS keyless_partitioned (id int) PARTITION BY RANGE (id);
       CREATE TABLE IF NOT EXISTS parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
       CREATE TABLE IF NOT EXISTS part_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)`,
    );
    const answer = await enable(table);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
  });

  test('without a key is not enabled with identity "keep"', async () => {
    await run(server, 'CREATE TABLE keyless (n int)');
    const refused = await enable('keyless', { identity: 'keep' });
    expect([refused.status, refused.body.details]).toEqual([403, expect.stringContaining('has no key')]);
    expect((await enable('keyless')).status).toBe(200);
    await run(server, 'INSERT INTO keyless VALUES (1); UPDATE keyless SET n = 2; DELETE FROM keyless');
  });

  test('that is partitioned streams under its own name, new partitions included', async () => {
    await run(
      server,
      `CREATE TABLE measures (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
       CREATE TABLE measures_1 PARTITION OF measures FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')`,
    );
    await subscribe(server, 'measures', { table: 'measures' });
    const ada = await join(server, 'measures', ADA);
    await run(
      server,
      `CREATE TABLE measures_2 PARTITION OF measures FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
       INSERT INTO measures VALUES (1, '2026-01-05'), (2, '2026-02-05'); DELETE FROM measures WHERE id = 1`,
    );
    const changes = await takeChanges(ada, 3);
    expect(
      changes.map(({ table, event, new_record, old_record }) => [
        table,
        event,
        (new_record ?? old_record)?.id,
      ]),
    ).toEqual([
      ['measures', 'INSERT', 1],
      ['measures', 'INSERT', 2],
      ['measures', 'DELETE', 1],
    ]);
  });

  test('may have any name, in any schema', async () => {
    await run(
      server,
      'CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."we""ird %" ("I d" int PRIMARY KEY)',
    );
    const path = `${encodeURIComponent('we"ird %')}?schema=${encodeURIComponent('My Schema')}`;
    expect((await enable(path)).status).toBe(200);
    await subscribe(server, 'weird', { table: 'we"ird %', schema: 'My Schema', condition: '"I d" > 0' });
    const ada = await join(server, 'weird', ADA);
    await run(server, 'INSERT INTO "My Schema"."we""ird %" VALUES (0), (1)');
    const message = await ada.next('database_change');
    expect([message.event, message.payload.change.new_record]).toEqual(['INSERT.we"ird %', { 'I d': 1 }]);
  });

  test('can be enabled by a server admin only, and misspelt fields are refused', async () => {
    const denied = await enable('notes', {}, user);
    expect([denied.status, denied.body.code]).toEqual([403, 'PERMISSION_DENIED']);
    const misspelt = await enable('notes', { identitiy: 'keep' });
    expect([misspelt.status, misspelt.body.field]).toEqual([400, 'identitiy']);
  });

  test('causes a gap when it is disabled and another when it is enabled again', async () => {
    await run(server, 'CREATE TABLE comes (id int PRIMARY KEY)');
    const id = await subscribe(server, 'comes', { table: 'comes' });
    const ada = await join(server, 'comes', ADA);
    await disable('comes');
    expect((await ada.next('system', 'gap')).payload).toEqual({
      scope: 'changes',
      reason: 'the table was disabled',
    });
    const listed = async () =>
      (await server.call('GET', '/realtime/subscriptions', { token: admin })).body.subscriptions.find(
        (subscription) => subscription.id === id,
      );
    expect(await listed()).toMatchObject({ active: false });
    await run(server, 'INSERT INTO comes VALUES (1)');
    await enable('comes');
    await ada.next('system', 'gap');
    expect(await listed()).toMatchObject({ active: true });
    await run(server, 'INSERT INTO comes VALUES (2)');
    expect((await nextChange(ada)).new_record).toEqual({ id: 2 });
  });
});

describe('settings', () => {
  test('REALTIME_FILTER_TABLES lists the only tables that can be enabled', async () => {
    const only = await startRowChangeServer({ REALTIME_FILTER_TABLES: 'messages, public.users' });
    try {
      const token = await only.token('root', 'admin');
      await run(
        only,
        'CREATE TABLE messages (id int PRIMARY KEY); CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE logs (id int PRIMARY KEY)',
      );
      const answers = [];
      for (const table of ['messages', 'users', 'logs'])
        answers.push((await only.call('POST', `/realtime/triggers/${table}`, { token, body: {} })).status);
      expect(answers).toEqual([200, 200, 403]);
    } finally {
      await only.stop();
    }
  });

  test('REALTIME_PUBLICATION_NAME names the publication that the server creates', async () => {
    const named = await startRowChangeServer({ REALTIME_PUBLICATION_NAME: 'my "publication\'s" name' });
    try {
      await run(named, 'CREATE TABLE notes (id int PRIMARY KEY)');
      await subscribe(named, 'notes', { table: 'notes' });
      const ada = await join(named, 'notes', ADA);
      await run(named, 'INSERT INTO notes VALUES (1)');
      expect((await nextChange(ada)).new_record).toEqual({ id: 1 });
      expect(await run(named, 'SELECT pubname FROM pg_publication')).toEqual([
        { pubname: 'my "publication\'s" name' },
      ]);
    } finally {
      await named.stop();
    }
  });

  test('REALTIME_ENABLE_DB_STREAMING=false turns row changes off', async () => {
    const off = await startTestServer({ REALTIME_ENABLE_DB_STREAMING: 'false' });
    try {
      const token = await off.token('root', 'admin');
      for (const [method, path] of [
        ['POST', '/realtime/triggers/notes'],
        ['GET', '/realtime/triggers'],
        ['GET', '/realtime/subscriptions'],
      ] as const) {
        const { status, body } = await off.call(method, path, {
          token,
          ...(method === 'POST' ? { body: {} } : {}),
        });
        expect([status, body.code, body.feature]).toEqual([403, 'FEATURE_DISABLED', 'db_streaming']);
      }
      expect((await off.call('GET', '/readyz')).body.parts).not.toHaveProperty('row_changes');
    } finally {
      await off.stop();
    }
  });
});
