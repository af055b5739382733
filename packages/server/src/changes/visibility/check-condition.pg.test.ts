import { ProtocolError } from '@goforward/realtime-protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectedDatabase } from '../../../../../tests/support/connected-database.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import type { Database } from '../../postgres/connection/database.js';
import type { TableFacts } from '../model/table-facts.js';
import { DEFAULT_DB_ROLE } from '../model/viewer.js';
import { checkCondition } from './check-condition.js';
import { PostgresAuthorizer } from './evaluating/postgres-authorizer.js';

let test: TestDatabase;
let database: Database;
let facts: TableFacts;

beforeAll(async () => {
  test = await createTestDatabase();
  database = await connectedDatabase(test.url);
  await sql(test.url, `CREATE TABLE notes (t text, u text); GRANT SELECT ON notes TO ${DEFAULT_DB_ROLE}`);
  const [row] = await sql<{ oid: number }>(test.url, `SELECT 'notes'::regclass::oid::int AS oid`);
  const authorizer = new PostgresAuthorizer({ database, enableRls: true, clock: Date.now });
  const found = await authorizer.facts(row?.oid ?? 0);
  authorizer.stop();
  if (found === undefined) throw new Error('no table');
  facts = found;
});

afterAll(async () => {
  await database.stop();
  await test.drop();
});

/** Returns why a condition is refused; undefined: it is not. */
async function refusalOf(condition: string): Promise<string | undefined> {
  try {
    await checkCondition(database, facts, DEFAULT_DB_ROLE, condition);
    return undefined;
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    expect(error.code).toBe('DB_SUBSCRIPTION_FAILED');
    return error.body.details;
  }
}

describe('a LIKE pattern in a condition', () => {
  const half = 'x'.repeat(512);
  const long = 'x'.repeat(1_025);
  it.each([
    ['of 1,025 bytes', `t LIKE '${long}'`],
    ['of fewer characters, but more bytes', `t LIKE '${'é'.repeat(513)}'`],
    ['that is put together from shorter texts', `t LIKE '${half}' || '%' || '${half}'`],
    ['after NOT, in another operator, with a cast', `NOT t !~~ '${long}'::varchar`],
    ['of ILIKE', `t NOT ILIKE '${long}'`],
    ['with an escape of its own', `t LIKE '${long}' ESCAPE '!'`],
    ['in a list', `t LIKE ANY (ARRAY['a', '${long}'])`],
    ['in a CASE that no row decides', `t LIKE CASE WHEN true THEN '${long}' ELSE 'a' END`],
  ])('%s is refused', async (_, condition) => {
    expect(await refusalOf(condition)).toBe('The condition has a LIKE pattern of more than 1024 bytes');
  });

  it.each([
    ['of 1,024 bytes', `t LIKE '${half}${half}'`],
    ['that is NULL, and a list of none', `t LIKE NULL OR t LIKE ANY ('{}') OR t LIKE ANY (NULL)`],
    ['that a row decides', `t LIKE u || '${half}' || '${half}' || '%'`],
    ['beside a longer text that is none', `t = '${long}' OR t LIKE 'x'`],
  ])('%s is accepted', async (_, condition) => {
    expect(await refusalOf(condition)).toBeUndefined();
  });

  it('that raises an error refuses the condition with this error', async () => {
    expect(await refusalOf(`t LIKE (1 / 0)::text`)).toBe('division by zero');
  });
});
