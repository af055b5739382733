import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RecordingLog } from '../support/recording-log.js';
import { ADA, BOB, MESSAGES, nextChange, run, subscribe, takeChanges } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

let server: TestServer;

beforeEach(async () => {
  server = await startRowChangeServer();
});
afterEach(() => server.stop());

describe('a row change', () => {
  test('has every field of the specification and the fields added to it', async () => {
    await run(server, 'CREATE TABLE notes (id int PRIMARY KEY, content text)');
    const id = await subscribe(server, 'notes', { table: 'notes' });
    const ada = await join(server, 'notes', ADA);
    await run(server, `INSERT INTO notes VALUES (1, 'hello')`);
    const message = await ada.next('database_change');
    expect(message).toEqual({
      id: expect.stringMatching(/^msg_\d+_[a-z0-9]+$/),
      type: 'database_change',
      event: 'INSERT.notes',
      payload: {
        change: {
          id: expect.stringMatching(/^change_\d+_[a-z0-9]+$/),
          table: 'notes',
          schema: 'public',
          event: 'INSERT',
          old_record: null,
          new_record: { id: 1, content: 'hello' },
          timestamp: message.timestamp,
          commit_timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
          xid: expect.any(Number),
        },
        subscription_ids: [id],
      },
      user_id: 'system',
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      cursor: expect.stringMatching(/^[a-z0-9]+:[0-9A-F]+\/[0-9A-F]+\/0$/),
    });
  });

  test('has both records for UPDATE, the old one for DELETE and none for TRUNCATE', async () => {
    await run(server, 'CREATE TABLE notes (id int PRIMARY KEY, content text)');
    await subscribe(server, 'notes', { table: 'notes' });
    const ada = await join(server, 'notes', ADA);
    await run(
      server,
      `INSERT INTO notes VALUES (1, 'a'); UPDATE notes SET content = NULL; DELETE FROM notes`,
    );
    await run(server, 'TRUNCATE notes');
    const changes = await takeChanges(ada, 4);
    expect(changes.map(({ event, old_record, new_record }) => [event, old_record, new_record])).toEqual([
      ['INSERT', null, { id: 1, content: 'a' }],
      ['UPDATE', { id: 1, content: 'a' }, { id: 1, content: null }],
      ['DELETE', { id: 1, content: null }, null],
      ['TRUNCATE', null, null],
    ]);
  });

  test('has the requested columns in the order of the table, or their union for several subscriptions', async () => {
    await run(server, 'CREATE TABLE notes (id int PRIMARY KEY, a text, b text, c text)');
    const one = await subscribe(server, 'notes', { table: 'notes', columns: ['b', 'id'] });
    const two = await subscribe(server, 'notes', { table: 'notes', columns: ['c'], condition: `a = 'x'` });
    const ada = await join(server, 'notes', ADA);
    await run(server, `INSERT INTO notes VALUES (1, 'x', 'y', 'z'), (2, 'w', 'y', 'z')`);
    const [both, first] = await ada.take(2, 'database_change');
    expect(JSON.stringify(both?.payload.change.new_record)).toBe('{"id":1,"b":"y","c":"z"}');
    expect([...(both?.payload.subscription_ids ?? [])].sort()).toEqual([one, two].sort());
    expect(first?.payload).toMatchObject({
      change: { new_record: { id: 2, b: 'y' } },
      subscription_ids: [one],
    });
  });

  test('is sent only for the requested events and condition, and reports when a row starts or stops matching', async () => {
    await run(server, 'CREATE TABLE tasks (id int PRIMARY KEY, done bool, title text)');
    await subscribe(server, 'open', { table: 'tasks', events: ['UPDATE', 'DELETE'], condition: 'NOT done' });
    const ada = await join(server, 'open', ADA);
    await run(
      server,
      `INSERT INTO tasks VALUES (1, false, 'a'), (2, true, 'b');
       UPDATE tasks SET title = 'A' WHERE id = 1;
       UPDATE tasks SET done = true WHERE id = 1;
       UPDATE tasks SET title = 'AA' WHERE id = 1;
       UPDATE tasks SET done = false WHERE id = 2;
       DELETE FROM tasks WHERE id = 1;
       DELETE FROM tasks WHERE id = 2`,
    );
    const changes = await takeChanges(ada, 4);
    expect(
      changes.map(({ event, visibility, old_record, new_record }) => [
        event,
        visibility,
        old_record,
        new_record,
      ]),
    ).toEqual([
      ['UPDATE', undefined, { id: 1, done: false, title: 'a' }, { id: 1, done: false, title: 'A' }],
      ['UPDATE', 'lost', { id: 1 }, null],
      ['UPDATE', 'gained', null, { id: 2, done: false, title: 'b' }],
      ['DELETE', undefined, { id: 2, done: false, title: 'b' }, null],
    ]);
  });
});

describe('row level security', () => {
  test('shows each member the rows that the policies allow, and reports when a row becomes visible or hidden', async () => {
    await run(server, MESSAGES);
    await subscribe(server, 'lobby', { table: 'messages', columns: ['id', 'content', 'user_id'] });
    const [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
    await run(
      server,
      `INSERT INTO messages (content, user_id) VALUES ('of ada', '${ADA}'), ('of bob', '${BOB}'), ('of nobody', NULL);
       UPDATE messages SET user_id = '${BOB}' WHERE content = 'of ada';
       DELETE FROM messages`,
    );
    const seen = async (client: typeof ada, count: number) =>
      (await takeChanges(client, count)).map(({ event, visibility, old_record, new_record }) => [
        visibility ?? event,
        old_record?.content ?? old_record?.id,
        new_record?.content,
      ]);
    expect(await seen(ada, 2)).toEqual([
      ['INSERT', undefined, 'of ada'],
      ['lost', 1, undefined],
    ]);
    expect(await seen(bob, 4)).toEqual([
      ['INSERT', undefined, 'of bob'],
      ['gained', undefined, 'of ada'],
      ['DELETE', 'of bob', undefined],
      ['DELETE', 'of ada', undefined],
    ]);
    await ada.settle();
    expect(ada.all('database_change')).toHaveLength(2);
  });

  test('applies to a server admin too, and a policy that fails for one user is reported to that user once', async () => {
    await run(server, MESSAGES);
    const id = await subscribe(server, 'lobby', { table: 'messages' });
    const [ada, root] = [
      await join(server, 'lobby', ADA),
      await join(server, 'lobby', 'no uuid', { role: 'admin' }),
    ];
    for (const content of ['one', 'two']) {
      await run(server, `INSERT INTO messages (content, user_id) VALUES ('${content}', '${ADA}')`);
    }
    expect((await takeChanges(ada, 2)).map(({ new_record }) => new_record?.content)).toEqual(['one', 'two']);
    expect((await root.next('system', 'error')).payload).toEqual({
      error: 'a row level security policy failed',
      code: 'POLICY_ERROR',
      subscription_id: id,
    });
    await root.settle();
    expect([root.all('system', 'error').length, root.all('database_change').length]).toEqual([1, 0]);
  });

  test('applies changed policies and grants from the next change on', async () => {
    await run(server, `CREATE TABLE notes (id int PRIMARY KEY, content text, secret text)`);
    await subscribe(server, 'notes', { table: 'notes' });
    const ada = await join(server, 'notes', ADA);
    await run(server, `INSERT INTO notes VALUES (1, 'a', 's')`);
    expect((await nextChange(ada)).new_record).toEqual({ id: 1, content: 'a', secret: 's' });
    await run(
      server,
      `REVOKE SELECT ON notes FROM realtime_subscriber; GRANT SELECT (id, content) ON notes TO realtime_subscriber`,
    );
    await run(server, `INSERT INTO notes VALUES (2, 'b', 's')`);
    expect((await nextChange(ada)).new_record).toEqual({ id: 2, content: 'b' });
    await run(server, `ALTER TABLE notes ENABLE ROW LEVEL SECURITY`);
    await run(server, `INSERT INTO notes VALUES (3, 'c', 's')`);
    await run(server, `CREATE POLICY even ON notes USING (id % 2 = 0)`);
    await run(server, `INSERT INTO notes VALUES (4, 'd', 's'), (5, 'e', 's'), (6, 'f', 's')`);
    expect((await takeChanges(ada, 2)).map(({ new_record }) => new_record?.id)).toEqual([4, 6]);
  });

  test('does not apply with REALTIME_ENABLE_RLS=false, but column privileges do', async () => {
    const log = new RecordingLog();
    const withoutRls = await startRowChangeServer({ REALTIME_ENABLE_RLS: 'false' }, { log });
    try {
      expect(log.warnings).toContain(
        'REALTIME_ENABLE_RLS is false: row policies are not applied to row changes',
      );
      await run(withoutRls, MESSAGES);
      await subscribe(withoutRls, 'lobby', { table: 'messages' });
      await run(
        withoutRls,
        'REVOKE SELECT ON messages FROM realtime_subscriber; GRANT SELECT (id, content) ON messages TO realtime_subscriber',
      );
      const bob = await join(withoutRls, 'lobby', BOB);
      await run(withoutRls, `INSERT INTO messages (content, user_id) VALUES ('of ada', '${ADA}')`);
      expect((await nextChange(bob)).new_record).toEqual({ id: 1, content: 'of ada' });
    } finally {
      await withoutRls.stop();
    }
  });

  test('evaluates a token as its role when REALTIME_DB_ROLES lists that role', async () => {
    await run(
      server,
      `DO $$ BEGIN CREATE ROLE test_auditor NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`,
    );
    const withRoles = await startRowChangeServer({ REALTIME_DB_ROLES: 'test_auditor' });
    try {
      await run(
        withRoles,
        `${MESSAGES}; CREATE POLICY audit ON messages FOR SELECT TO test_auditor USING (true);
        GRANT SELECT ON messages TO test_auditor`,
      );
      await subscribe(withRoles, 'lobby', { table: 'messages' });
      const [auditor, bob] = [
        await join(withRoles, 'lobby', BOB, { role: 'test_auditor' }),
        await join(withRoles, 'lobby', BOB),
      ];
      await run(
        withRoles,
        `INSERT INTO messages (content, user_id) VALUES ('of ada', '${ADA}'), ('of bob', '${BOB}')`,
      );
      expect((await takeChanges(auditor, 2)).map(({ new_record }) => new_record?.content)).toEqual([
        'of ada',
        'of bob',
      ]);
      expect((await nextChange(bob)).new_record?.content).toBe('of bob');
    } finally {
      await withRoles.stop();
    }
  });
});

describe('the order of row changes', () => {
  test('is that of commits, with whole transactions, and ten thousand rows delay neither pings nor chat', async () => {
    await run(server, 'CREATE TABLE events (id int PRIMARY KEY, payload text)');
    await subscribe(server, 'events', { table: 'events' });
    const [ada, bob] = [await join(server, 'events', ADA), await join(server, 'other', BOB)];
    const inserting = run(
      server,
      `INSERT INTO events SELECT n, repeat('x', 100) FROM generate_series(1, 10000) n`,
    );
    await ada.next('database_change');
    await bob.settle();
    bob.send({ type: 'broadcast', event: 'chat', payload: { n: 1 } });
    await bob.next('message', 'chat');
    await inserting;
    await run(server, `INSERT INTO events VALUES (10001, 'last')`);
    const rest = await takeChanges(ada, 10_000);
    expect(rest.map(({ new_record }) => new_record?.id)).toEqual(
      Array.from({ length: 10_000 }, (_, n) => n + 2),
    );
    expect(new Set(rest.slice(0, -1).map(({ xid }) => xid)).size).toBe(1);
  });

  test('is kept between messages that are published in the same channel', async () => {
    await run(server, 'CREATE TABLE events (id int PRIMARY KEY)');
    await subscribe(server, 'events', { table: 'events' });
    const ada = await join(server, 'events', ADA);
    for (let n = 1; n <= 50; n++) {
      ada.send({ type: 'broadcast', event: 'chat', payload: { n } });
      if (n % 10 === 0) await run(server, `INSERT INTO events VALUES (${n})`);
    }
    const messages = await ada.take(50, 'message', 'chat');
    expect(messages.map(({ payload }) => payload.n)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
    await expect.poll(() => ada.all('database_change').length).toBe(5);
    const ids = ada.all('database_change').map(({ payload }) => payload.change.new_record?.id);
    expect(ids).toEqual([10, 20, 30, 40, 50]);
  });

  test('a row that is written right after `connected` arrives, in forty attempts', async () => {
    await run(server, 'CREATE TABLE events (id int PRIMARY KEY)');
    await subscribe(server, 'events', { table: 'events' });
    for (let n = 1; n <= 40; n++) {
      const client = await join(server, 'events', ADA);
      await run(server, `INSERT INTO events VALUES (${n})`);
      expect((await nextChange(client)).new_record).toEqual({ id: n });
      await client.close();
    }
  });
});
