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
  await sql(
    test.url,
    `CREATE TYPE day AS ENUM ('today', 'later'); CREATE DOMAIN moment AS timestamptz; CREATE DOMAIN words AS text;
     CREATE TABLE notes (t text, u text, i int, n numeric, p numeric(10, 2), d date, z timestamptz, m moment, w words, r tstzrange,
       a text[], b int[], j jsonb, k json, e day, c regclass, v interval);
     GRANT SELECT ON notes TO ${DEFAULT_DB_ROLE}`,
  );
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

const PRESENT = 'depend on the time or the session';
const TEXT_AS_TIME = 'A condition can cast only literals, dates and times to';

describe('a condition that depends on the present is refused', () => {
  it.each([
    [`z > 'now'`],
    [`z > ' Today '`],
    [`d IN ('2025-01-01', 'YESTERDAY')`],
    [`z BETWEEN 'yesterday' AND '2030-01-01'`],
    [`coalesce(z, 'tomorrow') IS NULL`],
    [`CASE WHEN true THEN z ELSE 'now' END IS NULL`],
    [`m = 'now'`],
    [`r && '[today,tomorrow]'`],
    [`d = ANY ('{now,2025-01-01}')`],
    [`ARRAY['now']::date[] IS NULL`],
    [`date_trunc('day', z) = 'today 00:00'`],
    [`greatest(d, 'today') = d`],
    [`e = 'today' AND z > 'now'`],
    [`z > timestamptz 'now'`],
    [`z > '(now)'::timestamptz::date`],
  ])('%s', async (condition) => {
    expect(await refusalOf(condition)).toContain(PRESENT);
  });

  it.each([
    [`t::date IS NULL`],
    [`w::timestamptz IS NULL`],
    [`lower('NOW')::timestamp < z`],
    [`CAST(left('nowx', 3) AS date) < d`],
    [`(j ->> 'at')::timestamptz > z`],
    [`'now'::text::time IS NULL`],
    [`CASE WHEN true THEN 'now' END::date IS NULL`],
    [`coalesce('now', t)::date IS NULL`],
    [`(ARRAY['now'])[1]::date IS NULL`],
  ])('%s', async (condition) => {
    expect(await refusalOf(condition)).toContain(TEXT_AS_TIME);
  });
});

it.each([
  ['t::text[] IS NULL', 'cast only literals to text[]'],
  ['a::text IS NULL', 'cannot cast an array or a jsonb value to text'],
  ['j::text::int IS NULL', 'cannot cast an array or a jsonb value to text'],
  [`b && b`, 'the operator && on arrays and JSON only with a literal'],
  [`j @> j`, 'the operator @> on arrays and JSON only with a literal'],
  [`a <@ coalesce(a, '{}')`, 'the operator <@ on arrays and JSON only with a literal'],
  [`j ?| a`, 'the operator ?| on arrays and JSON only with a literal'],
  [`j - a = '{}'`, 'only literals from a jsonb value'],
  ['n * 2 > 1', 'the operator * on numeric values only with a precision; write CAST(n AS numeric(38, 10))'],
  [`c = 'pg_authid'`, `cannot read column 'c': its values are names of database objects (regclass)`],
])(
  'a condition with large work or another look at the catalog is refused: %s',
  async (condition, details) => {
    expect(await refusalOf(condition)).toContain(details);
  },
);

it.each([
  [`t = 'today' AND e = 'today' AND j @> '{"due": "today"}' AND t LIKE '%now%' AND 'now' = ANY (a)`],
  [
    `z > '2025-01-01' AND d < z::date AND z::time > '10:00' AND m::date = d AND r @> z AND r && '[2025-01-01,)'`,
  ],
  [`d = ANY (ARRAY['2025-01-01', '2025-01-02']::date[]) AND v > '1 day' AND t::interval > v`],
  [`p * i > 10 AND CAST(n AS numeric(20, 4)) / 3 > 1 AND i % 2 = 0 AND i - length(t) > 0 AND z - z > v`],
  [`(j ->> 'n')::int > 5 AND (k ->> 'a')::text = t AND i::text LIKE '1%' AND t::json ->> 'x' = 'y'`],
  [`b && '{1,2,3}' AND a @> ARRAY['x'] AND j ?| ARRAY['x', 'y'] AND j - 'x' = '{}' AND z = 'infinity'`],
])('an ordinary condition is accepted: %s', async (condition) => {
  expect(await refusalOf(condition)).toBeUndefined();
});

it('the error of an expression of literals refuses the condition', async () => {
  expect(await refusalOf(`t = (1 / 0)::text`)).toBe('division by zero');
});
