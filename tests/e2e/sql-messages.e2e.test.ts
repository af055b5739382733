import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { postgresVersions } from '../support/matrix.js';
import { createTestDatabase, dropSlot, sql } from '../support/postgres-database.js';
import { ADA, subscribe } from '../support/row-changes.js';
import { join, type TestClient } from '../support/test-client.js';
import { startRowChangeServer, type TestServer } from '../support/test-server.js';

const VERSIONS = postgresVersions('newest');

/** An SQL expression for jsonb of nested arrays or objects; `null` is in the innermost object. */
function nested(open: string, close: string, levels: number): string {
  const inner = open === '[' ? '' : 'null';
  return `(repeat('${open}', ${levels}) || '${inner}' || repeat('${close}', ${levels}))::jsonb`;
}

describe.each(VERSIONS)('a message sent from SQL on the %s PostgreSQL', (postgres) => {
  let database: { url: string; name: string; drop: () => Promise<void> };
  let slot: string;
  let server: TestServer;

  beforeEach(async () => {
    database = await createTestDatabase(postgres);
    slot = `test_${randomBytes(6).toString('hex')}`;
    server = await start();
  });
  afterEach(async () => {
    await server.stop();
    await dropSlot(database.url, slot);
    await database.drop();
  });

  const start = (env: Record<string, string> = {}) =>
    startRowChangeServer({ DATABASE_URL: database.url, REALTIME_REPLICATION_SLOT: slot, ...env });
  const write = (text: string) => sql(database.url, text);
  const nextPayload = async (member: TestClient) => (await member.next('message')).payload as unknown;

  async function metric(name: string): Promise<number> {
    const { text } = await server.call('GET', '/metrics', { token: await server.token('root', 'admin') });
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  }

  test('reaches the members of its channel when its transaction commits, and only then', async () => {
    const [ada, other] = [await join(server, 'jobs', ADA), await join(server, 'elsewhere', ADA)];
    await write(`BEGIN; SELECT realtime.send('jobs', 'progress', '{"done": 1}'); ROLLBACK`);
    await write(`SELECT realtime.send('jobs', 'progress', '{"done": 50, "of": [1.5, null, "ü"]}')`);
    await write(`SELECT realtime.send('jobs', 'finished', '{"message": "done"}', 'broadcast')`);
    const first = await ada.next('message');
    expect(first).toEqual({
      id: expect.stringMatching(/^msg_\d+_[a-z0-9]+$/),
      type: 'message',
      event: 'progress',
      payload: { done: 50, of: [1.5, null, 'ü'] },
      user_id: 'system',
      timestamp: expect.any(String),
      cursor: expect.any(String),
    });
    expect((await ada.next('broadcast', 'finished')).payload).toEqual({ message: 'done' });
    await other.settle();
    expect([...other.all('message'), ...other.all('broadcast')]).toEqual([]);
  });

  test('arrives in commit order with row changes, and is resumed with them', async () => {
    await write('CREATE TABLE notes (id int PRIMARY KEY)');
    await subscribe(server, 'jobs', { table: 'notes' });
    const ada = await join(server, 'jobs', ADA);
    const transaction = (n: number) => `
      BEGIN; SELECT realtime.send('jobs', 'before', '${n}'); INSERT INTO notes VALUES (${n});
      SELECT realtime.send('jobs', 'after', '${n}'); COMMIT`;
    for (let n = 1; n <= 20; n++) await write(transaction(n));
    const expected = (from: number) =>
      Array.from({ length: 21 - from }, (_, n) => n + from).flatMap((n) => [
        `before ${n}`,
        `row ${n}`,
        `after ${n}`,
      ]);
    const sequenceOf = (member: TestClient) =>
      member.received.flatMap(({ type, event, payload }) => {
        if (type === 'message') return [`${event} ${JSON.stringify(payload)}`];
        return type === 'database_change' ? [`row ${JSON.stringify(payload.change.new_record?.id)}`] : [];
      });
    await eventually(() => expect(sequenceOf(ada)).toEqual(expected(1)));
    // Resume from a cursor within a transaction, after a server restart.
    const within = ada.received.find(
      ({ event, payload }) => event === 'before' && (payload as unknown) === 10,
    );
    await server.stop();
    server = await start();
    const query = `cursor=${encodeURIComponent(within?.cursor ?? '')}`;
    const resumed = await join(server, 'jobs', ADA, { query });
    await eventually(() => expect(sequenceOf(resumed)).toEqual(expected(10).slice(1)));
  });

  test('can be sent only by a role that was granted the function, and forged messages are dropped', async () => {
    const login = `sender_${randomBytes(4).toString('hex')}`;
    await write(`CREATE ROLE ${login} LOGIN PASSWORD 'p'`);
    const url = Object.assign(new URL(database.url), { username: login, password: 'p' }).href;
    const send = () => sql(url, `SELECT realtime.send('jobs', 'e', '1')`);
    try {
      await expect(send()).rejects.toThrow('permission denied for schema realtime');
      await write(`GRANT USAGE ON SCHEMA realtime TO ${login}`);
      await expect(send()).rejects.toThrow('permission denied for function send');
      await write(`GRANT EXECUTE ON FUNCTION realtime.send TO ${login}`);
      const ada = await join(server, 'jobs', ADA);
      await send();
      expect(await nextPayload(ada)).toBe(1);
      await expect(sql(url, 'SELECT secret FROM realtime.message_secret')).rejects.toThrow(
        'permission denied',
      );

      // Every login may write to the WAL. Forgeries are dropped, even a copy of a genuine message.
      const forge = (content: string) =>
        sql(url, `SELECT pg_logical_emit_message(true, 'goforward.message', '${content}')`);
      const body = '{"channel" : "jobs", "event" : "forged", "type" : "message", "payload" : 1}';
      await forge(body);
      await forge('0'.repeat(64) + body);
      await forge('');
      const [copy] = await sql<{ content: string }>(
        database.url,
        `SELECT encode(sha256(secret || sha256(secret || convert_to('1:' || '${body}', 'UTF8'))), 'hex') || '${body}' AS content
         FROM realtime.message_secret`,
      );
      await forge(copy?.content ?? '');
      await send();
      expect(await nextPayload(ada)).toBe(1);
      expect(ada.all('message', 'forged')).toEqual([]);
      expect(await metric('realtime_sql_messages_refused_total')).toBe(4);
    } finally {
      await write(`DROP OWNED BY ${login}; DROP ROLE ${login}`);
    }
  });

  test('that is invalid fails in the statement that sends it', async () => {
    await expect(write(`SELECT realtime.send('.no', 'e')`)).rejects.toThrow("'.no' is no name of a channel");
    await expect(write(`SELECT realtime.send('jobs', '')`)).rejects.toThrow('event');
    await expect(write(`SELECT realtime.send('jobs', 'e', '1', 'system')`)).rejects.toThrow('type');
    await expect(write(`SELECT realtime.send('jobs', 'e', to_jsonb(repeat('x', 1100000)))`)).rejects.toThrow(
      'at most 1 MB',
    );
    for (const payload of [nested('[', ']', 65), nested('{"a":', '}', 65), nested('[', ']', 6_000)])
      await expect(write(`SELECT realtime.send('jobs', 'e', ${payload})`)).rejects.toThrow('64 levels');
  });

  test('may have a payload of 64 levels', async () => {
    const ada = await join(server, 'jobs', ADA);
    await write(`SELECT realtime.send('jobs', 'e', ${nested('[', ']', 64)})`);
    await write(`SELECT realtime.send('jobs', 'e', ${nested('{"a":', '}', 64)})`);
    expect(JSON.stringify(await nextPayload(ada))).toBe('['.repeat(64) + ']'.repeat(64));
    expect(JSON.stringify(await nextPayload(ada))).toMatch(/^({"a":){64}null}{64}$/);
  });

  test('has the numbers that PostgreSQL wrote', async () => {
    const ada = await join(server, 'jobs', ADA);
    await write(`SELECT realtime.send('jobs', 'e', '[1152921506151679042, 1E400, 1.0, -0.1000, 1e-3]')`);
    await nextPayload(ada);
    expect(ada.texts.join()).toContain(
      `"payload":[1152921506151679042, 1${'0'.repeat(400)}, 1.0, -0.1000, 0.001],`,
    );
  });

  test('can be sent by a trigger for each row', async () => {
    const ada = await join(server, 'room:7', ADA);
    await write(`
      CREATE TABLE chat (id int PRIMARY KEY, room int, words text);
      CREATE FUNCTION notify_room() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
      BEGIN
        PERFORM realtime.broadcast_changes('room:' || NEW.room, 'chat', TG_OP, TG_TABLE_NAME, TG_TABLE_SCHEMA, NEW, OLD);
        RETURN NULL;
      END $$;
      CREATE TRIGGER notify_room AFTER INSERT OR UPDATE ON chat FOR EACH ROW EXECUTE FUNCTION notify_room()`);
    await write(`INSERT INTO chat VALUES (1, 7, 'hello'), (2, 8, 'not here')`);
    await write(`UPDATE chat SET words = 'hello again' WHERE id = 1`);
    const record = { id: 1, room: 7, words: 'hello' };
    expect(await nextPayload(ada)).toEqual({
      operation: 'INSERT',
      schema: 'public',
      table: 'chat',
      record,
      old_record: null,
    });
    expect(await nextPayload(ada)).toMatchObject({
      operation: 'UPDATE',
      record: { words: 'hello again' },
      old_record: record,
    });
  });
});
