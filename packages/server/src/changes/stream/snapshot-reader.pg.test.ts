import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { connectedDatabase } from '../../../../../tests/support/connected-database.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { IdSource } from '../../lib/ids.js';
import { silentLog } from '../../lib/log.js';
import type { Database } from '../../postgres/connection/database.js';
import type { Sql } from '../../postgres/sql/sql.js';
import { DEFAULT_DB_ROLE } from '../model/viewer.js';
import { SnapshotBudget } from './snapshot-budget.js';
import { SnapshotFiles } from './snapshot-files.js';
import { type SnapshotQuery, SnapshotReader, type SnapshotReaderParts } from './snapshot-reader.js';

const TABLES = `
  CREATE TABLE small (id int, body text);
  INSERT INTO small SELECT n, 'x' FROM generate_series(1, 300) n;
  CREATE TABLE large (id int, body text);
  INSERT INTO large SELECT n, repeat('x', 2000) FROM generate_series(1, 1500) n;
  CREATE TABLE wide (id int, body text);
  INSERT INTO wide SELECT n, repeat('x', 3200000) FROM generate_series(1, 12) n;
  CREATE FUNCTION takes_long(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN $1; END';
  CREATE VIEW slow AS SELECT takes_long(id) AS id, body FROM small;
  GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${DEFAULT_DB_ROLE};`;

let created: TestDatabase;
let database: Database;
beforeAll(async () => {
  created = await createTestDatabase();
  database = await connectedDatabase(created.url);
  await sql(created.url, TABLES);
});
afterAll(async () => {
  await database.stop();
  await created.drop();
});

let folder: string;
let files: SnapshotFiles;
let budget: SnapshotBudget;
/** The most characters that a statement returned. */
let mostAtOnce: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'goforward-reader-'));
  files = new SnapshotFiles({ folder, ids: new IdSource(), log: silentLog });
  budget = new SnapshotBudget();
  mostAtOnce = 0;
});
afterEach(async () => {
  expect([files.count, budget.bytes]).toEqual([0, 0]);
  await files.close();
  rmSync(folder, { recursive: true });
});

const reported: unknown[] = [];

/** Runs transactions in the database, and measures what their statements return. */
const measured: SnapshotReaderParts['database'] = {
  transaction: (work, options) =>
    database.transaction(
      (sql) =>
        work({
          query: async <Row extends object>(text: string, values?: readonly unknown[]) => {
            const rows = await sql.query<Row>(text, values);
            if (Array.isArray(rows))
              mostAtOnce = Math.max(
                mostAtOnce,
                rows.reduce((sum, row) => sum + Object.values(row).join('').length, 0),
              );
            return rows;
          },
        } as Sql),
      options,
    ),
};

function readerOf(transactionMs = 10_000): SnapshotReader {
  const errorLog = { report: (error: unknown) => reported.push(error) };
  const parts = { database: measured, enableRls: true, errorLog, files, budget, isRead: () => false };
  return new SnapshotReader({ ...parts, transactionMs } as unknown as SnapshotReaderParts);
}

function read(reader: SnapshotReader, table: string, signal = new AbortController().signal) {
  const columns = [
    { name: 'id', typeOid: 23, generated: null },
    { name: 'body', typeOid: 25, generated: null },
  ];
  const query = {
    table: { schema: 'public', name: table, columns },
    privileges: { columns: new Set(['id', 'body']), policies: [] },
    viewer: { key: 'k', role: DEFAULT_DB_ROLE, userId: 'ann', claims: '{}', settings: [] },
    condition: null,
  } as unknown as SnapshotQuery;
  return reader.read(async () => query, { user: 'ann', signal });
}

test.each([
  ['small', 300, 0],
  ['large', 1500, 1],
])(
  'the table %s is read with all its rows in order, by statements that return little',
  async (table, count, inFiles) => {
    const { pages } = await read(readerOf(), table);
    expect([files.count, budget.bytes > 0]).toEqual([inFiles, true]);
    const texts = await Promise.all(Array.from({ length: pages.count }, (_, n) => pages.read(n)));
    const rows = texts.flatMap((text) => JSON.parse(`[${text}]`) as { id: number }[]);
    expect(rows.map(({ id }) => id)).toEqual(Array.from({ length: count }, (_, n) => n + 1));
    expect(Math.max(...texts.map((text) => text.length))).toBeLessThanOrEqual(65_536 + 200);
    expect(mostAtOnce).toBeLessThan(300_000);
    pages.close();
    await files.close();
  },
);

test('rows beyond the limit never leave PostgreSQL', async () => {
  await expect(read(readerOf(), 'wide')).rejects.toMatchObject({
    body: { details: expect.stringContaining('at most 10000 rows and 16 MB') },
  });
  expect(mostAtOnce).toBeLessThan(34_000_000);
});

test('a transaction of many short statements ends when its time is over', async () => {
  const since = performance.now();
  await expect(read(readerOf(600), 'slow')).rejects.toMatchObject({
    body: { details: expect.stringContaining('took too long') },
  });
  expect(performance.now() - since).toBeLessThan(3_000);
  expect(reported).toHaveLength(1);
});

test('a snapshot whose caller has gone gives everything back', async () => {
  const gone = new AbortController();
  const reason = new Error('gone');
  const reading = read(readerOf(), 'slow', gone.signal);
  gone.abort(reason);
  await expect(reading).rejects.toBe(reason);
});
