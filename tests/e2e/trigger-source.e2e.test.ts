import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { eventually } from '../support/eventually.js';
import { postgresVersions } from '../support/matrix.js';
import { createTestDatabase, sql } from '../support/postgres-database.js';
import { ADA, BOB, MESSAGES, nextChange, subscribe, takeChanges } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

/** Returns the index of a message within its transaction. */
const indexOf = ({ cursor }: { readonly cursor?: string | undefined }) => Number(cursor?.split('/').at(-1));

/** The specification's function, as a user would create it by hand. */
const BY_HAND = `
  CREATE FUNCTION notify_table_changes() RETURNS trigger AS $$
  BEGIN
    PERFORM pg_notify('table_changes', json_build_object('table', TG_TABLE_NAME, 'schema', TG_TABLE_SCHEMA, 'event', TG_OP,
      'old_record', CASE WHEN TG_OP <> 'INSERT' THEN row_to_json(OLD) END,
      'new_record', CASE WHEN TG_OP <> 'DELETE' THEN row_to_json(NEW) END, 'timestamp', extract(epoch FROM now()))::text);
    RETURN coalesce(NEW, OLD);
  END $$ LANGUAGE plpgsql;`;

const VERSIONS = postgresVersions('newest');

describe.each(VERSIONS)('REALTIME_CHANGE_SOURCE=trigger on the %s PostgreSQL', (postgres) => {
  let database: { url: string; drop: () => Promise<void> };
  let servers: TestServer[];

  beforeEach(async () => {
    database = await createTestDatabase(postgres);
    servers = [];
  });
  afterEach(async () => {
    for (const server of servers) await server.stop();
    await database.drop();
  });

  async function start(env: Record<string, string> = {}, awaitStream = true): Promise<TestServer> {
    const server = await startRowChangeServer(
      { DATABASE_URL: database.url, REALTIME_CHANGE_SOURCE: 'trigger', ...env },
      { awaitStream },
    );
    servers.push(server);
    return server;
  }
  const write = (text: string) => sql(database.url, text);

  async function openSession(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    return client;
  }

  const triggersOf = async (table: string) =>
    (
      await sql<{ name: string }>(
        database.url,
        `SELECT tgname::text AS name FROM pg_trigger WHERE tgrelid = '${table}'::regclass AND NOT tgisinternal ORDER BY 1`,
      )
    ).map(({ name }) => name);

  test('changes reach the users who may see the row, and disabling a table removes its triggers', async () => {
    const server = await start();
    await write(MESSAGES);
    const admin = await server.token('root', 'admin');
    await server.call('POST', '/realtime/channels', { token: admin, body: { name: 'lobby' } });
    const subscribed = await server.call('POST', '/realtime/channels/lobby/subscribe', {
      token: admin,
      body: { table: 'messages' },
    });
    // Triggers see whole old rows, so there is no warning.
    expect([subscribed.status, subscribed.body.warnings]).toEqual([200, undefined]);
    const [ada, bob] = [await join(server, 'lobby', ADA), await join(server, 'lobby', BOB)];
    expect(await triggersOf('messages')).toEqual(['messages_changes_trigger', 'messages_truncate_trigger']);
    await write(`INSERT INTO messages (content, user_id) VALUES ('one', '${ADA}'), ('two', '${BOB}')`);
    await write(`UPDATE messages SET user_id = '${BOB}' WHERE content = 'one'`);
    await write(`BEGIN; DELETE FROM messages; ROLLBACK; DELETE FROM messages WHERE content = 'two'`);
    await write('TRUNCATE messages');
    const seen = (changes: readonly { event: string; visibility?: string | undefined }[]) =>
      changes.map(({ event, visibility }) => [event, visibility]);
    expect(seen(await takeChanges(ada, 3))).toEqual([
      ['INSERT', undefined],
      ['UPDATE', 'lost'],
      ['TRUNCATE', undefined],
    ]);
    expect(seen(await takeChanges(bob, 4))).toEqual([
      ['INSERT', undefined],
      ['UPDATE', 'gained'],
      ['DELETE', undefined],
      ['TRUNCATE', undefined],
    ]);
    const token = await server.token('root', 'admin');
    const { body } = await server.call('GET', '/realtime/triggers', { token });
    expect(body.triggers).toMatchObject([{ table: 'messages', source: 'trigger', active: true }]);
    const stats = await server.call('GET', '/realtime/stats', { token });
    expect(stats.body).toMatchObject({ database: { source: 'trigger' } });
    await server.call('DELETE', '/realtime/triggers/messages', { token });
    expect(await triggersOf('messages')).toEqual([]);
  });

  test('values are those of to_jsonb, whatever the settings of the writer', async () => {
    const server = await start();
    await write(
      `CREATE TYPE pair AS (a int, b text);
       CREATE TABLE kinds (id int PRIMARY KEY, at timestamptz, day date, span interval, n numeric, f float8, bytes bytea, doc jsonb, list text[], p pair, twice int GENERATED ALWAYS AS (id * 2) STORED)`,
    );
    await subscribe(server, 'lobby', { table: 'kinds' });
    const ada = await join(server, 'lobby', ADA);
    const row = `'2025-06-01 12:00:00+02', '2025-03-04', '1 day 2 hours', 1.50, 0.1, '\\xdeadbeef', '{"a": null}', '{"x,y", NULL, "\\"q\\""}', '(1,"a b")'`;
    await write(
      `SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET IntervalStyle = 'postgres_verbose'; SET bytea_output = 'escape'; SET extra_float_digits = -3;
       INSERT INTO kinds VALUES (1, ${row})`,
    );
    const [expected] = await sql<{ row: Record<string, unknown> }>(
      database.url,
      `SELECT to_jsonb(k) - 'twice' || jsonb_build_object('at', '2025-06-01T10:00:00+00:00') AS row FROM kinds k`,
    );
    const { new_record: seen } = await nextChange(ada);
    expect(seen).toEqual({ ...expected?.row, span: 'P1DT2H' });
  });

  test('an open transaction delays no other, and its changes arrive when it commits', async () => {
    const server = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(server, 'lobby', { table: 'notes' });
    const ada = await join(server, 'lobby', ADA);
    const slow = await openSession();
    try {
      await slow.query('BEGIN; INSERT INTO notes VALUES (1)');
      await write('INSERT INTO notes VALUES (2)');
      expect((await nextChange(ada)).new_record).toEqual({ id: 2 });
      await slow.query(
        'SAVEPOINT s; INSERT INTO notes VALUES (3); ROLLBACK TO s; INSERT INTO notes VALUES (4)',
      );
      await slow.query('COMMIT');
      expect((await takeChanges(ada, 2)).map(({ new_record }) => new_record?.id)).toEqual([1, 4]);
    } finally {
      await slow.end();
    }
  });

  test('a returning client receives what it missed, with the same cursors after a restart, and the outbox is pruned', async () => {
    const first = await start({ REALTIME_RESUME_WINDOW: '1h' });
    await write('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(first, 'lobby', { table: 'notes' });
    const ada = await join(first, 'lobby', ADA);
    for (let id = 1; id <= 20; id++) await write(`INSERT INTO notes VALUES (${id})`);
    const seen = await ada.take(20, 'database_change');
    await first.stop();
    servers = [];
    await write('INSERT INTO notes VALUES (21)');
    const second = await start({ REALTIME_RESUME_WINDOW: '1ms' }, false);
    const query = `cursor=${encodeURIComponent(String(seen[4]?.cursor))}`;
    const again = await join(second, 'lobby', ADA, { query });
    expect(again.all('system', 'connected')[0]?.payload.recovered).toBe(true);
    const replayed = await again.take(16, 'database_change');
    expect(replayed.slice(0, 15).map(({ id, cursor }) => [id, cursor])).toEqual(
      seen.slice(5).map(({ id, cursor }) => [id, cursor]),
    );
    expect(replayed[15]?.payload.change.new_record).toEqual({ id: 21 });
    await eventually(async () => {
      const [left] = await sql<{ count: number }>(
        database.url,
        'SELECT count(*)::int AS count FROM realtime.outbox',
      );
      expect(left?.count).toBe(0);
    }, 10_000);
    const late = await join(second, 'lobby', ADA, { query });
    expect(late.all('system', 'connected')[0]?.payload.recovered).toBe(false);
    expect((await late.next('system', 'gap')).payload.reason).toContain(
      'changes after the cursor are no longer available',
    );
  });

  test('partitions stream under the name of their root, even with columns in another order', async () => {
    const server = await start();
    await write(
      `CREATE TABLE logs (id int, at date, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
       CREATE TABLE logs_new (note text, at date NOT NULL, id int NOT NULL, PRIMARY KEY (id, at))`,
    );
    await subscribe(server, 'lobby', { table: 'logs' });
    await write(
      `ALTER TABLE logs ATTACH PARTITION logs_new FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')`,
    );
    const ada = await join(server, 'lobby', ADA);
    await write(`INSERT INTO logs_new VALUES ('direct', '2025-02-03', 1)`);
    await write(`INSERT INTO logs VALUES (2, '2025-02-03', 'routed')`);
    expect((await takeChanges(ada, 2)).map(({ table, new_record }) => [table, new_record])).toEqual([
      ['logs', { id: 1, at: '2025-02-03', note: 'direct' }],
      ['logs', { id: 2, at: '2025-02-03', note: 'routed' }],
    ]);
  });

  test('values arrive under the right names after columns change, and a gap is sent where that is uncertain', async () => {
    const server = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY, a text, b text)');
    await subscribe(server, 'lobby', { table: 'notes' });
    const ada = await join(server, 'lobby', ADA);
    await write(
      `INSERT INTO notes VALUES (1, 'a', 'b'); ALTER TABLE notes ADD c text; INSERT INTO notes VALUES (2, 'a', 'b', 'c')`,
    );
    expect((await takeChanges(ada, 2)).map(({ new_record }) => new_record)).toEqual([
      { id: 1, a: 'a', b: 'b' },
      { id: 2, a: 'a', b: 'b', c: 'c' },
    ]);
    await write(`ALTER TABLE notes DROP a; INSERT INTO notes VALUES (3, 'b', 'c')`);
    expect((await nextChange(ada)).new_record).toEqual({ id: 3, b: 'b', c: 'c' });
    // The columns of these rows are uncertain, so the rows are not sent and a new change epoch begins.
    await write(
      `BEGIN; INSERT INTO notes VALUES (4, 'b', 'c'); ALTER TABLE notes ADD d text; INSERT INTO notes VALUES (5, 'b', 'c', 'd');
       ALTER TABLE notes DROP b; INSERT INTO notes VALUES (6, 'c', 'd'); COMMIT`,
    );
    expect((await ada.next('system', 'gap')).payload.reason).toBe(
      'the columns of a table changed more than once',
    );
    await write(`INSERT INTO notes VALUES (7, 'c', 'd')`);
    expect((await nextChange(ada)).new_record).toEqual({ id: 7, c: 'c', d: 'd' });
  });

  test('changed privileges and policies apply from the next commit on', async () => {
    const server = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY, secret text)');
    await subscribe(server, 'lobby', { table: 'notes' });
    const ada = await join(server, 'lobby', ADA);
    await write(`INSERT INTO notes VALUES (1, 's')`);
    expect((await nextChange(ada)).new_record).toEqual({ id: 1, secret: 's' });
    await write(
      'REVOKE SELECT ON notes FROM realtime_subscriber; GRANT SELECT (id) ON notes TO realtime_subscriber',
    );
    await write(`INSERT INTO notes VALUES (2, 's')`);
    expect((await nextChange(ada)).new_record).toEqual({ id: 2 });
    await write(
      'ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY even ON notes USING (id % 2 = 0)',
    );
    await write(`INSERT INTO notes VALUES (3, 's'), (4, 's')`);
    expect((await nextChange(ada)).new_record).toEqual({ id: 4 });
  });

  test('disabling and enabling a table causes a gap for a client that was away', async () => {
    const server = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(server, 'lobby', { table: 'notes' });
    const ada = await join(server, 'lobby', ADA);
    const cursor = ada.all('system', 'connected')[0]?.payload.cursor;
    await ada.close();
    const token = await server.token('root', 'admin');
    await server.call('DELETE', '/realtime/triggers/notes', { token });
    await write('INSERT INTO notes VALUES (1)');
    await server.call('POST', '/realtime/triggers/notes', { token, body: {} });
    await eventually(async () => {
      const late = await join(server, 'lobby', ADA, {
        query: `cursor=${encodeURIComponent(String(cursor))}`,
      });
      expect(late.all('system', 'connected')[0]?.payload.recovered).toBe(false);
      await late.close();
    });
  });

  test('doctor reports a disabled trigger, and the next start recreates it with a gap', async () => {
    const server = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(server, 'lobby', { table: 'notes' });
    const ada = await join(server, 'lobby', ADA);
    const cursor = encodeURIComponent(String(ada.all('system', 'connected')[0]?.payload.cursor));
    const env = { DATABASE_URL: database.url, REALTIME_CHANGE_SOURCE: 'trigger' };
    const doctor = () => runCli(['doctor'], { cwd: tmpdir(), env });
    expect((await doctor()).stdout).not.toContain('GF123');
    await write('ALTER TABLE notes DISABLE TRIGGER notes_changes_trigger; INSERT INTO notes VALUES (1)');
    expect((await doctor()).stdout).toContain('changes of public.notes reach nobody');
    await server.stop();
    servers = [];
    const late = await join(await start({}, false), 'lobby', ADA, { query: `cursor=${cursor}` });
    expect(late.all('system', 'connected')[0]?.payload.recovered).toBe(false);
    await write('INSERT INTO notes VALUES (2)');
    expect((await nextChange(late)).new_record).toEqual({ id: 2 });
    expect(late.all('system', 'gap')).toHaveLength(1);
    expect((await doctor()).stdout).not.toContain('GF123');
  });

  test('messages from SQL arrive in commit order with row changes', async () => {
    const server = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(server, 'jobs', { table: 'notes' });
    const ada = await join(server, 'jobs', ADA);
    await write(`BEGIN; SELECT realtime.send('jobs', 'lost', '{}'); ROLLBACK`);
    await write(
      `BEGIN; SELECT realtime.send('jobs', 'before', '{"n": 1}'); INSERT INTO notes VALUES (1); SELECT realtime.send('jobs', 'after', '{"n": 2}'); COMMIT`,
    );
    await ada.take(2, 'message');
    const all = [...ada.all('message'), ...ada.all('database_change')];
    expect(all.sort((a, b) => indexOf(a) - indexOf(b)).map(({ event }) => event)).toEqual([
      'before',
      'INSERT.notes',
      'after',
    ]);
  });

  test('a transaction larger than a page arrives complete and in order', async () => {
    const server = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY, content text)');
    await subscribe(server, 'lobby', { table: 'notes' });
    const ada = await join(server, 'lobby', ADA);
    await write(`INSERT INTO notes SELECT n, repeat('x', 1000) FROM generate_series(1, 8000) n`);
    const changes = await takeChanges(ada, 8_000);
    expect(changes.map(({ new_record }) => new_record?.id)).toEqual(changes.map((_, n) => n + 1));
  });

  test('a row too long for NOTIFY does not fail the INSERT', async () => {
    const server = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY, content text)');
    await subscribe(server, 'lobby', { table: 'notes' });
    const ada = await join(server, 'lobby', ADA);
    await write(`INSERT INTO notes VALUES (1, repeat('x', 100000))`);
    expect((await nextChange(ada)).new_record?.content).toHaveLength(100_000);
  });

  test('a trigger made by hand works with a warning of its limits, and forged notifications are dropped', async () => {
    const server = await start();
    await write(
      `CREATE TABLE notes (id int PRIMARY KEY, at timestamptz, list int[]); CREATE TABLE other (id int PRIMARY KEY); ${BY_HAND}
       CREATE TRIGGER notes_changes_trigger AFTER INSERT OR UPDATE OR DELETE ON notes FOR EACH ROW EXECUTE FUNCTION notify_table_changes();`,
    );
    const token = await server.token('root', 'admin');
    const { body } = await server.call('POST', '/realtime/triggers/notes', { token, body: {} });
    expect(body.warnings).toContainEqual(expect.stringContaining('over 8,000 bytes'));
    expect(await triggersOf('notes')).toEqual(['notes_changes_trigger']);
    await subscribe(server, 'lobby', { table: 'notes' });
    await subscribe(server, 'lobby', { table: 'other' });
    const ada = await join(server, 'lobby', ADA);
    const forged = (table: string, record: string) =>
      `SELECT pg_notify('table_changes', '{"table": "${table}", "schema": "public", "event": "INSERT", "old_record": null, "new_record": ${record}}')`;
    for (const text of [
      forged('other', '{"id": 9}'),
      forged('nothing', '{}'),
      forged('notes', '{"id": "x"}'),
      `NOTIFY table_changes, 'rubbish'`,
    ])
      await write(text);
    await write(
      `INSERT INTO notes VALUES (1, '2025-01-01Z', '{1,2}'); UPDATE notes SET list = NULL; DELETE FROM notes`,
    );
    expect(
      (await takeChanges(ada, 3)).map(({ event, old_record, new_record }) => [event, old_record, new_record]),
    ).toEqual([
      ['INSERT', null, { id: 1, at: '2025-01-01T00:00:00+00:00', list: [1, 2] }],
      ['UPDATE', expect.objectContaining({ list: [1, 2] }), expect.objectContaining({ list: null })],
      ['DELETE', expect.objectContaining({ id: 1 }), null],
    ]);
  });

  test('one of two servers reads, and the other takes over when it stops', async () => {
    const first = await start();
    await write('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(first, 'lobby', { table: 'notes' });
    const second = await start({}, false);
    const status = async () => (await second.call('GET', '/readyz')).body.parts.row_changes?.status;
    await eventually(async () => expect(await status()).toBe('follower'));
    await first.stop();
    servers = [second];
    await write('INSERT INTO notes VALUES (1)');
    await eventually(async () => expect(await status()).toBe('streaming'), 15_000);
    const ada = await join(second, 'lobby', ADA);
    await write('INSERT INTO notes VALUES (2)');
    expect((await nextChange(ada)).new_record).toEqual({ id: 2 });
  });

  test('auto chooses triggers for a login that may not replicate, and logical decoding later removes them', async () => {
    const login = `test_${randomBytes(6).toString('hex')}`;
    await write(
      `CREATE ROLE ${login} LOGIN PASSWORD 'pw' CREATEROLE; GRANT ALL ON DATABASE ${new URL(database.url).pathname.slice(1)} TO ${login};
       GRANT ALL ON SCHEMA public TO ${login}; DO $$ BEGIN CREATE ROLE realtime_subscriber; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
       GRANT realtime_subscriber TO ${login}`,
    );
    const url = new URL(database.url);
    [url.username, url.password] = [login, 'pw'];
    try {
      const server = await start({ DATABASE_URL: url.href, REALTIME_CHANGE_SOURCE: 'auto' });
      await sql(url.href, 'CREATE TABLE notes (id int PRIMARY KEY)');
      await subscribe(server, 'lobby', { table: 'notes' });
      const ada = await join(server, 'lobby', ADA);
      const cursor = ada.all('system', 'connected')[0]?.payload.cursor;
      await sql(url.href, 'INSERT INTO notes VALUES (1)');
      expect((await nextChange(ada)).new_record).toEqual({ id: 1 });
      await server.stop();
      servers = [];
      await write(`ALTER ROLE ${login} REPLICATION`);
      const logical = await start({ DATABASE_URL: url.href, REALTIME_CHANGE_SOURCE: 'auto' });
      expect(await triggersOf('notes')).toEqual([]);
      const bob = await join(logical, 'lobby', ADA, {
        query: `cursor=${encodeURIComponent(String(cursor))}`,
      });
      expect(bob.all('system', 'connected')[0]?.payload.recovered).toBe(false);
      await sql(url.href, 'INSERT INTO notes VALUES (2)');
      expect((await nextChange(bob)).new_record).toEqual({ id: 2 });
    } finally {
      for (const server of servers.splice(0)) await server.stop();
      await write(`DROP OWNED BY ${login} CASCADE`);
      await write(`DROP ROLE ${login}`);
    }
  });
});
