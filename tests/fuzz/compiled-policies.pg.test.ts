import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadParser } from '../../packages/server/src/changes/expressions/parse-expression.js';
import type { RowImage } from '../../packages/server/src/changes/model/row-image.js';
import { DEFAULT_DB_ROLE, type Viewer } from '../../packages/server/src/changes/model/viewer.js';
import { StaleFacts } from '../../packages/server/src/changes/visibility/authorizer.js';
import { type Predicate, testOf } from '../../packages/server/src/changes/visibility/compiling/predicate.js';
import { TypedRow } from '../../packages/server/src/changes/visibility/compiling/typed-row.js';
import { ViewerIndex } from '../../packages/server/src/changes/visibility/compiling/viewer-index.js';
import { PostgresAuthorizer } from '../../packages/server/src/changes/visibility/evaluating/postgres-authorizer.js';
import { parseCondition } from '../../packages/server/src/changes/visibility/parse-condition.js';
import type { Database } from '../../packages/server/src/postgres/connection/database.js';
import { connectedDatabase } from '../support/connected-database.js';
import { createTestDatabase, sql, type TestDatabase } from '../support/postgres-database.js';
import { COLUMNS, type CompilableWorld, compilableWorld, TABLE } from './compilable-world.js';

/**
 * Change these with `npm run test:fuzz -- --cases N --seed S`. A case is one row version and one viewer or
 * condition.
 */
const CASES = Number(process.env.FUZZ_CASES ?? 3_000);
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_127);
/** Average number of cases per world. */
const CASES_PER_WORLD = 50;

/**
 * A function that returns the ids that a SELECT shows. When the SELECT raises an error, it selects rows one
 * by one, so that an error hides only its own row.
 */
const TRUTH = `
  CREATE FUNCTION sees(role text, usr text, claims text, count int) RETURNS int[] LANGUAGE plpgsql AS $$
  DECLARE seen int[] := '{}'; found int;
  BEGIN
    PERFORM set_config('role', role, true), set_config('app.current_user_id', usr, true), set_config('request.jwt.claims', claims, true);
    BEGIN RETURN ARRAY(SELECT id FROM public.exact ORDER BY id); EXCEPTION WHEN OTHERS THEN NULL; END;
    FOR i IN 0 .. count - 1 LOOP
      BEGIN
        SELECT id INTO found FROM public.exact WHERE id = i;
        IF found IS NOT NULL THEN seen := seen || found; END IF;
      EXCEPTION WHEN OTHERS THEN NULL;
      END;
    END LOOP;
    RETURN seen;
  END $$;`;

let test: TestDatabase;
let database: Database;
let authorizer: PostgresAuthorizer;
const counts = { cases: 0, visible: 0, compiled: 0, indexed: 0, worlds: 0, conditions: 0, memberships: 0 };

beforeAll(async () => {
  await loadParser();
  test = await createTestDatabase();
  database = await connectedDatabase(test.url);
  await sql(test.url, `${TABLE}; ${TRUTH}; GRANT SELECT ON exact, member, team TO ${DEFAULT_DB_ROLE}`);
  // Memberships are read again in each world, as if changes of their tables had been delivered.
  const isStreamed = () => 'true';
  authorizer = new PostgresAuthorizer({
    database,
    enableRls: true,
    clock: () => performance.now(),
    isStreamed,
  });
});

afterAll(async () => {
  authorizer.stop();
  await database.stop();
  await test.drop();
});

const fail = () => {
  throw new Error('A row was not decided');
};
const unchanged = (predicate: Predicate) => predicate;

/**
 * Returns the rows that would be delivered to each viewer, and those that a SELECT shows it. Undefined: the
 * policies are not compilable.
 */
async function visibleRows(
  world: CompilableWorld,
  mutate: (predicate: Predicate) => Predicate,
): Promise<{ actual: number[][]; expected: number[][] } | undefined> {
  const policies = world.policies.map(
    ({ isRestrictive, expression }, n) =>
      `CREATE POLICY p${n} ON exact AS ${isRestrictive && n > 0 ? 'RESTRICTIVE' : 'PERMISSIVE'} USING (${expression})`,
  );
  const values = world.rows.map((row, id) => `(${[String(id), ...row].map(literal).join(', ')})`);
  const inserted = (table: string, rows: CompilableWorld['members']) =>
    rows.length === 0
      ? ''
      : `INSERT INTO ${table} VALUES ${rows.map((row) => `(${row.map(literal).join(', ')})`).join(', ')};`;
  await sql(
    test.url,
    `TRUNCATE exact, member, team; ${inserted('member', world.members)} ${inserted('team', world.teams)} DO $$ DECLARE p record; BEGIN FOR p IN SELECT polname FROM pg_policy WHERE polrelid = 'exact'::regclass LOOP
       EXECUTE format('DROP POLICY %I ON exact', p.polname); END LOOP; END $$;
     ${policies.join(';')}; INSERT INTO exact VALUES ${values.join(', ')}`,
  );
  const oid = await oidOf();
  for (;;) {
    try {
      return await compareVisibleRows(world, oid, mutate);
    } catch (error) {
      // Other tests create roles, which makes cached catalog facts stale.
      if (!(error instanceof StaleFacts)) throw error;
    }
  }
}

async function compareVisibleRows(
  world: CompilableWorld,
  oid: number,
  mutate: (predicate: Predicate) => Predicate,
): Promise<{ actual: number[][]; expected: number[][] } | undefined> {
  await authorizer.current(oid);
  const facts = await authorizer.facts(oid);
  if (facts === undefined) throw new Error('no table');
  const privileges = await authorizer.privileges(facts, DEFAULT_DB_ROLE);
  if (privileges.rows !== 'filtered' || !('compiled' in privileges.policyCompilation)) return undefined;
  const { predicate } = privileges.policyCompilation.compiled;
  const index = new ViewerIndex<number>(mutate(predicate));
  const viewers = world.viewers.map(({ userId, claims }, n): Viewer => {
    return { key: String(n), role: DEFAULT_DB_ROLE, userId, claims, settings: [] };
  });
  const parameters = await authorizer.evaluateParameters(facts, DEFAULT_DB_ROLE, viewers, []);
  for (const [n, own] of parameters.entries()) if (typeof own === 'object') index.add(n, own.parameters);
  counts.compiled += 1;
  if (index.isIndexed) counts.indexed += 1;
  if (privileges.policyCompilation.compiled.memberships.length > 0) counts.memberships += 1;
  const actual: number[][] = viewers.map(() => []);
  for (const [id, image] of (await rowImages()).entries())
    for (const n of index.find(new TypedRow(image), fail)) actual[n]?.push(id);
  const expected: number[][] = [];
  for (const { userId, claims } of viewers) {
    const [row] = await database.query<{ seen: number[] }>('SELECT public.sees($1, $2, $3, $4) AS seen', [
      DEFAULT_DB_ROLE,
      userId,
      claims,
      world.rows.length,
    ]);
    expected.push(row?.seen ?? []);
  }
  // PostgreSQL evaluates the policies for viewers whose parameters raise an error.
  const isCompiled = (_: unknown, n: number) => parameters[n] !== undefined;
  counts.cases += parameters.filter(isCompiled).length * world.rows.length;
  counts.visible += expected.filter(isCompiled).flat().length;
  return { actual: actual.filter(isCompiled), expected: expected.filter(isCompiled) };
}

/**
 * Returns the rows for which a condition is true, in process and in PostgreSQL. Undefined: it is not
 * compilable.
 */
async function matchingRows({
  condition,
  rows,
}: CompilableWorld): Promise<{ actual: number[]; expected: number[] } | undefined> {
  const facts = await authorizer.facts(await oidOf());
  if (facts === undefined) throw new Error('no table');
  const parsed = parseCondition(condition.replaceAll('public.mood', 'text'), facts.columns);
  const exact = await authorizer.compileCondition(facts, parsed);
  if (!('compiled' in exact)) return undefined;
  const holds = testOf(exact.compiled.predicate);
  const actual = (await rowImages()).flatMap((image, id) =>
    holds(new TypedRow(image), []) === true ? [id] : [],
  );
  const found = await database.query<{ id: number }>(
    `SELECT id FROM public.exact WHERE ${parsed.sql} ORDER BY id`,
  );
  counts.conditions += 1;
  counts.cases += rows.length;
  return { actual, expected: found.map(({ id }) => id) };
}

async function oidOf(): Promise<number> {
  const [row] = await sql<{ oid: number }>(test.url, `SELECT 'exact'::regclass::oid::int AS oid`);
  return row?.oid ?? 0;
}

/** Returns the rows as they appear in the WAL. */
async function rowImages(): Promise<RowImage[]> {
  const texts = COLUMNS.map((name) =>
    name === 'b' ? `CASE b WHEN true THEN 't' WHEN false THEN 'f' END` : `${name}::text`,
  );
  const rows = await database.query<{ image: RowImage }>(
    `SELECT json_build_array(${texts.join(', ')}) AS image FROM public.exact ORDER BY id`,
  );
  return rows.map(({ image }) => image);
}

function literal(value: string | null): string {
  return value === null ? 'NULL' : `'${value.replaceAll("'", "''")}'`;
}

describe('compiled policies and conditions', () => {
  it(
    `show the rows that a SELECT shows, in ${CASES} cases of seed ${SEED}`,
    async () => {
      await fc.assert(
        fc.asyncProperty(compilableWorld, async (world) => {
          counts.worlds += 1;
          const rows = await visibleRows(world, unchanged).catch(ignoreInvalidExpression);
          expect(rows?.actual).toEqual(rows?.expected);
          const holding = await matchingRows(world).catch(ignoreInvalidExpression);
          expect(holding?.actual).toEqual(holding?.expected);
        }),
        {
          seed: SEED,
          numRuns: Math.ceil(CASES / CASES_PER_WORLD),
        },
      );
      console.info(`compiled: ${JSON.stringify(counts)}, 0 differences, seed ${SEED}`);
      expect(counts.cases).toBeGreaterThan(CASES * 0.8);
      expect(counts.memberships).toBeGreaterThan(counts.worlds * 0.05);
    },
    Math.max(120_000, CASES * 20),
  );

  const mutations: Readonly<Record<string, (predicate: Predicate) => Predicate>> = {
    '< for <=': (predicate) =>
      mapPredicate(predicate, (part) =>
        part.kind === 'compare' && part.operator === '<=' ? { ...part, operator: '<' } : part,
      ),
    'NULL as false': (predicate) =>
      mapPredicate(predicate, (part) =>
        part.kind === 'compare' || part.kind === 'any' ? { kind: 'is', part, truth: true } : part,
      ),
    'a restrictive policy left out': (predicate) =>
      predicate.kind === 'and' ? { ...predicate, parts: predicate.parts.slice(1) } : predicate,
    'one of several permissive policies left out': (predicate) =>
      mapPredicate(predicate, (part) =>
        part.kind === 'or' ? { ...part, parts: part.parts.slice(1) } : part,
      ),
  };
  it.each(Object.entries(mutations))(
    'fail this comparison when the compiler is wrong: %s',
    async (_, mutate) => {
      const { failed } = await fc.check(
        fc.asyncProperty(compilableWorld, async (world) => {
          const rows = await visibleRows(world, mutate).catch(ignoreInvalidExpression);
          return JSON.stringify(rows?.actual) === JSON.stringify(rows?.expected);
        }),
        { seed: SEED, numRuns: Math.ceil(20_000 / CASES_PER_WORLD), endOnFailure: true },
      );
      expect(failed).toBe(true);
    },
  );
});

/**
 * Ignores errors of invalid random expressions (types that do not compare, malformed literals) and rethrows
 * all others.
 */
function ignoreInvalidExpression(error: unknown): undefined {
  const isRefusal =
    error instanceof Error &&
    (error.name === 'ProtocolError' || ('code' in error && /^(?:22|42)/.test(String(error.code))));
  if (!isRefusal) throw error;
  return undefined;
}

/** Applies `change` to every part of a predicate, inner parts first. */
function mapPredicate(predicate: Predicate, change: (part: Predicate) => Predicate): Predicate {
  switch (predicate.kind) {
    case 'and':
    case 'or':
      return change({ ...predicate, parts: predicate.parts.map((part) => mapPredicate(part, change)) });
    case 'not':
    case 'is':
      return change({ ...predicate, part: mapPredicate(predicate.part, change) });
    case 'compare':
    case 'distinct':
    case 'any':
    case 'like':
    case 'isNull':
    case 'holds':
      return change(predicate);
  }
}
