import { describe, expect, test } from 'vitest';
import { changeSources } from '../support/matrix.js';
import { createTestDatabase, sql } from '../support/postgres-database.js';
import { ADA, nextChange, subscribe } from '../support/row-changes.js';
import { join } from '../support/test-client.js';
import { startRowChangeServer } from '../support/test-server.js';

/**
 * SQL for a message that only the owner of the schema can write: signed like one of `realtime.send`, but not
 * checked by it. A database that an earlier version has set up can hold such messages.
 */
const unchecked = (content: string) => `
  PERFORM realtime.emit_message(encode(sha256(secret || sha256(secret || convert_to(
      (pg_current_xact_id()::text::numeric % 4294967296)::text || ':' || ${content}, 'UTF8'))), 'hex') || ${content})
    FROM realtime.message_secret;`;
const DEEP = `(repeat('[', 6000) || repeat(']', 6000))`;
const BAD = [
  `'{"channel":"jobs","event":"e","type":"message","payload":' || ${DEEP} || '}'`,
  `'{"channel":["jobs"],"event":{},"type":"message"}'`,
  `'{"event":"e","type":"message"}'`,
  `'null'`,
  `'no JSON'`,
];

describe.each(changeSources('logical', 'trigger'))('with the %s source', (source) => {
  test('bad messages from SQL are dropped alone: the rows and messages beside them arrive', async () => {
    const database = await createTestDatabase('newest');
    const server = await startRowChangeServer({ DATABASE_URL: database.url, REALTIME_CHANGE_SOURCE: source });
    try {
      await sql(database.url, 'CREATE TABLE notes (id int PRIMARY KEY)');
      await subscribe(server, 'jobs', { table: 'notes' });
      const ada = await join(server, 'jobs', ADA);
      await sql(
        database.url,
        `DO $$ BEGIN
           INSERT INTO notes VALUES (1);
           ${BAD.map(unchecked).join('\n')}
           PERFORM realtime.send('jobs', 'good', '1');
           INSERT INTO notes VALUES (2);
         END $$`,
      );
      expect((await nextChange(ada)).new_record).toEqual({ id: 1 });
      expect((await ada.next('message')).event).toBe('good');
      expect((await nextChange(ada)).new_record).toEqual({ id: 2 });
      expect(ada.all('system', 'gap')).toEqual([]);
      const token = await server.token('root', 'admin');
      const { text } = await server.call('GET', '/metrics', { token });
      expect(text).toMatch(/^realtime_sql_messages_refused_total 5$/m);
    } finally {
      await server.stop();
      await database.drop();
    }
  });

  test('json and jsonb of a row are passed on at any depth', async () => {
    const database = await createTestDatabase('newest');
    const server = await startRowChangeServer({ DATABASE_URL: database.url, REALTIME_CHANGE_SOURCE: source });
    try {
      await sql(database.url, 'CREATE TABLE trees (id int PRIMARY KEY, a json, b jsonb)');
      await subscribe(server, 'trees', { table: 'trees', condition: `b IS NOT NULL` });
      const ada = await join(server, 'trees', ADA);
      await sql(database.url, `INSERT INTO trees VALUES (1, ${DEEP}::json, ${DEEP}::jsonb)`);
      const record = (await nextChange(ada)).new_record;
      expect(depthOf(record?.a)).toBe(6_000);
      expect(depthOf(record?.b)).toBe(6_000);
    } finally {
      await server.stop();
      await database.drop();
    }
  });
});

/** Returns how many arrays are within each other. */
function depthOf(value: unknown): number {
  let depth = 0;
  for (let inner = value; Array.isArray(inner); inner = inner[0]) depth += 1;
  return depth;
}
