import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { silentLog } from '../../lib/log.js';
import { Database } from '../connection/database.js';
import { createExampleTables } from './example-tables.js';

let test: TestDatabase;
let database: Database;

beforeEach(async () => {
  test = await createTestDatabase();
  database = new Database({
    url: test.url,
    log: silentLog,
    maxReconnectDelayMs: 100,
    onReady: async () => undefined,
  });
  await database.start();
});
afterEach(async () => {
  await database.stop();
  await test.drop();
});

const tables = () =>
  sql<{ name: string }>(
    test.url,
    `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1`,
  );

it('creates the example tables once and does not recreate a dropped one', async () => {
  await createExampleTables(database);
  expect((await tables()).map(({ name }) => name)).toEqual(['messages', 'test_table', 'users']);
  await sql(test.url, 'DROP TABLE messages');
  await createExampleTables(database);
  expect((await tables()).map(({ name }) => name)).toEqual(['test_table', 'users']);
});

it('creates no example table where a table with one of their names exists', async () => {
  await sql(test.url, 'CREATE TABLE users (n int)');
  await createExampleTables(database);
  expect((await tables()).map(({ name }) => name)).toEqual(['users']);
});
