import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectedDatabase } from '../../../../../tests/support/connected-database.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { sendCancelRequest } from '../../postgres/connection/cancel-request.js';
import type { Database } from '../../postgres/connection/database.js';
import { FUNCTIONS, OPERATORS, TYPES } from '../expressions/allow-list.js';
import type { TableFacts } from '../model/table-facts.js';
import { DEFAULT_DB_ROLE } from '../model/viewer.js';
import { checkCondition } from './check-condition.js';
import { PostgresAuthorizer } from './evaluating/postgres-authorizer.js';
import { parseCondition } from './parse-condition.js';

/** Set by `npm run test:fuzz`: all variants of each entry, as often in one condition as it may have them. */
const IS_LONG = process.env.FUZZ_CASES !== undefined;
const MAX_CANCEL_MS = 1_000;
/** By type: a column of a large value, and a literal. */
const SAMPLES: Readonly<Record<string, readonly [column: string, literal: string]>> = {
  text: ['t', `'ab'`],
  bytea: ['by', `'ab'`],
  jsonb: ['j', `'[1]'`],
  json: ['js', `'[1]'`],
  numeric: ['n', '7'],
  anyarray: ['ia', `'{-1}'`],
  anycompatiblearray: ['ia', `'{-1}'`],
  _text: ['ta', `'{x}'`],
  anyrange: ['r', `'[1,2]'`],
  anyelement: ['i', '-1'],
  anycompatible: ['i', '-1'],
  bpchar: ['c', `'ab'`],
  int4: ['i', '2'],
  int8: ['l', '2'],
  float8: ['f', '2'],
  timestamptz: ['z', `'2025-01-01'`],
  interval: ['iv', `'1 day'`],
  inet: ['a', `'::1'`],
};
/** Values of this size, in bytes. A `ΐ` has three times as many in upper case, and an `İ` more in lower case. */
const SIZE = IS_LONG ? 1_048_576 : 65_536;
const TABLE = `
  CREATE TABLE large (t text, by bytea, j jsonb, js json, n numeric(1000, 0), ia int[], ta text[], r numrange, i int, c bpchar, l int8, f float8,
    z timestamptz, iv interval, a inet);
  ALTER TABLE large ALTER t SET STORAGE EXTERNAL;
  INSERT INTO large SELECT repeat('ΐİ\\\\a', ${Math.floor(SIZE / 6)}), convert_to(repeat('a', ${SIZE}), 'UTF8'), (SELECT jsonb_agg(n) FROM generate_series(1, ${Math.floor(SIZE / 14)}) n),
    (SELECT json_agg(n) FROM generate_series(1, ${SIZE / 8}) n), repeat('7', 1000)::numeric, (SELECT array_agg(n) FROM generate_series(1, ${SIZE / 4}) n),
    (SELECT array_agg('a'::text) FROM generate_series(1, ${SIZE / 8}) n), numrange(1, repeat('7', 100000)::numeric), 5, repeat('a', ${SIZE}), 5, 5, now(), '1 day', '::1'`;

let test: TestDatabase;
let database: Database;
let client: pg.Client;
let facts: TableFacts;

beforeAll(async () => {
  test = await createTestDatabase();
  database = await connectedDatabase(test.url);
  await sql(test.url, `${TABLE}; GRANT SELECT ON large TO ${DEFAULT_DB_ROLE}`);
  const [row] = await sql<{ oid: number }>(test.url, `SELECT 'large'::regclass::oid::int AS oid`);
  const authorizer = new PostgresAuthorizer({ database, enableRls: true, clock: Date.now });
  const found = await authorizer.facts(row?.oid ?? 0);
  authorizer.stop();
  if (found === undefined) throw new Error('no table');
  facts = found;
  client = new pg.Client({ connectionString: test.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await database.stop();
  await test.drop();
});

/** A use of an entry of the allow-list: an expression, and its operands. */
interface Use {
  readonly entry: string;
  readonly expression: string;
  readonly operands: readonly string[];
  /** The same, applied to another value in place of its first operand. */
  readonly applied: (value: string) => string;
}

/** Returns uses of all functions, operators and casts, by the signatures that PostgreSQL has for them. */
async function usesOfAll(): Promise<Use[]> {
  const quoted = (names: Iterable<string>) => [...names].map((name) => `'${name}'`).join();
  const signatures = await sql<{ name: string; types: string[]; kind: 'call' | 'operator' }>(
    test.url,
    `SELECT proname AS name, 'call' AS kind, (SELECT json_agg(t.typname ORDER BY n) FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS a(oid, n) JOIN pg_type t USING (oid)) AS types
     FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN (${quoted(FUNCTIONS.keys())})
     UNION ALL
     SELECT oprname, 'operator', json_build_array(l.typname, r.typname) FROM pg_operator JOIN pg_type l ON l.oid = oprleft JOIN pg_type r ON r.oid = oprright
     WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname IN (${quoted(OPERATORS.keys())})`,
  );
  const uses = signatures.flatMap(({ name, types, kind }): Use[] => {
    const samples = types.flatMap((type) => {
      const sample = SAMPLES[type];
      return sample === undefined ? [] : [sample];
    });
    if (samples.length < types.length) return [];
    const columns = samples.map(([column]) => column);
    const literals = samples.map(([, literal]) => literal);
    const [first = ''] = columns;
    const forms = [
      columns,
      [first, ...literals.slice(1)],
      [...literals.slice(0, 1), ...columns.slice(1)],
      literals,
    ];
    return forms.map((operands) => {
      const applied = (value: string) => {
        const all = [value, ...operands.slice(1)];
        return kind === 'call' ? `${name}(${all.join(', ')})` : `(${all.join(` ${name} `)})`;
      };
      return { entry: name, expression: applied(operands[0] ?? ''), operands, applied };
    });
  });
  const casts = [...TYPES].flatMap((type) =>
    ['t', 'by', 'j', 'js', 'n', 'ia', 'i', 'z', 'a', 'iv'].map((column): Use => {
      const applied = (value: string) => `CAST(${value} AS ${type})`;
      return { entry: `cast to ${type}`, expression: applied(column), operands: [column], applied };
    }),
  );
  const special = [
    ['position', `position('ab' in `, ')', 't'],
    ['extract', 'extract(epoch from ', ')', 'z'],
    ['like_escape', '(', ` LIKE 'a!%' ESCAPE '!')`, 't'],
  ].map(([entry = '', before = '', after = '', column = '']): Use => {
    const applied = (value: string) => `${before}${value}${after}`;
    return { entry, expression: applied(column), operands: [column], applied };
  });
  return [...uses, ...casts, ...special];
}

async function isAccepted(condition: string): Promise<boolean> {
  return checkCondition(database, facts, DEFAULT_DB_ROLE, condition).then(
    () => true,
    () => false,
  );
}

/** Returns the length of a value as text; undefined: it raises an error. */
async function lengthOf(expression: string): Promise<number | undefined> {
  const { rows } = await client
    .query<{ length: number }>(`SELECT coalesce(octet_length((${expression})::text), 0) AS length FROM large`)
    .catch(() => ({ rows: [] }));
  return rows[0]?.length;
}

/** A number has at most as many digits as PostgreSQL gives it, whatever it is made of. */
const MOST_DIGITS = 2 * 147_456;

async function expectNoGrowth({ expression, operands, applied }: Use): Promise<void> {
  const length = (await lengthOf(expression)) ?? 0;
  if (length <= MOST_DIGITS) return;
  let limit = MOST_DIGITS;
  for (const operand of operands) limit += 2 * ((await lengthOf(operand)) ?? 0);
  expect([expression, length <= limit]).toEqual([expression, true]);
  const nested = applied(applied(applied(expression)));
  if (await isAccepted(`(${nested}) IS NULL`))
    expect([nested, ((await lengthOf(nested)) ?? 0) <= limit]).toEqual([nested, true]);
}

/** Cancels a statement that evaluates the condition on many rows, once it runs, and expects it to end. */
async function expectCancel(condition: string): Promise<void> {
  const started = new Promise((resolve) => client.once('notice', resolve));
  const statement = client.query(
    `DO $run$ BEGIN RAISE NOTICE 'started'; PERFORM FROM large, generate_series(1, 1000000) WHERE (${condition}) IS NULL; END $run$`,
  );
  const outcome = statement.then(
    () => 'ended',
    ({ code }: pg.DatabaseError) => code,
  );
  await started;
  const since = performance.now();
  await sendCancelRequest(client);
  // 57014: cancelled. Other errors are those of values, and on small values it may end first.
  expect([condition, await outcome]).toEqual([
    condition,
    expect.stringMatching(/^(?:ended|57014|2[0-9A-Z]{4})$/),
  ]);
  expect([condition, performance.now() - since < MAX_CANCEL_MS]).toEqual([condition, true]);
}

/** Returns a condition with the use as often as a condition may have it. */
function asOftenAsPossible({ expression }: Use): string {
  const condition = (times: number) =>
    Array.from({ length: times }, () => `(${expression}) IS NOT NULL`).join(' AND ');
  const fits = (times: number) => {
    try {
      parseCondition(condition(times), facts.columns);
      return true;
    } catch {
      return false;
    }
  };
  let times = 1;
  while (fits(times * 2)) times *= 2;
  return condition(times);
}

it('no function, operator or cast of a condition makes a large value grow, and each can be cancelled within a second', async () => {
  const bounded: Use[] = [];
  const entries = new Set<string>();
  for (const use of await usesOfAll()) {
    if (!IS_LONG && entries.has(use.entry)) continue;
    if (!(await isAccepted(`(${use.expression}) IS NOT NULL`))) continue;
    entries.add(use.entry);
    bounded.push(use);
    await expectNoGrowth(use);
    await expectCancel(IS_LONG ? asOftenAsPossible(use) : `(${use.expression}) IS NOT NULL`);
  }
  expect([...FUNCTIONS.keys(), ...OPERATORS.keys()].filter((entry) => !entries.has(entry)).join()).toEqual(
    '',
  );
  console.info(`conditions: ${bounded.length} uses of ${entries.size} entries are bounded`);
}, 600_000);
