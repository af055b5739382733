import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadParser } from '../../packages/server/src/changes/expressions/parse-expression.js';
import type { RowImage } from '../../packages/server/src/changes/model/row-image.js';
import { DEFAULT_DB_ROLE, type Viewer } from '../../packages/server/src/changes/model/viewer.js';
import { StaleFacts } from '../../packages/server/src/changes/visibility/authorizer.js';
import {
  type Predicate,
  TypedRow,
  testOf,
} from '../../packages/server/src/changes/visibility/compiling/predicate.js';
import { ViewerIndex } from '../../packages/server/src/changes/visibility/compiling/viewer-index.js';
import { PostgresAuthorizer } from '../../packages/server/src/changes/visibility/evaluating/postgres-authorizer.js';
import { parseCondition } from '../../packages/server/src/changes/visibility/parse-condition.js';
import type { Database } from '../../packages/server/src/postgres/connection/database.js';
import { connectedDatabase } from '../support/connected-database.js';
import { createTestDatabase, sql, type TestDatabase } from '../support/postgres-database.js';
import { COLUMNS, type ExactWorld, exactWorld, TABLE } from './exact-world.js';

/** `npm run test:fuzz -- --cases N --seed S` runs more, or others. A case is a row version and whoever asks for it. */
const CASES = Number(process.env.FUZZ_CASES ?? 3_000);
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_127);
/** Cases of a world, on average. */
const CASES_A_WORLD = 50;

/** What PostgreSQL shows: the ids that a SELECT sees one by one, so that an error hides its own row alone. */
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
  // What is read of the other tables is read anew in each world, as where their changes are told.
  const isStreamed = () => 'true';
  authorizer = new PostgresAuthorizer({ database, enableRls: true, clock: Date.now, isStreamed });
});

afterAll(async () => {
  authorizer.stop();
  await database.stop();
  await test.drop();
});

const unchanged = (predicate: Predicate) => predicate;

/** The rows that we would send to each context, and those that a SELECT shows it; undefined: only PostgreSQL can judge. */
async function judged(
  world: ExactWorld,
  mutate: (predicate: Predicate) => Predicate,
): Promise<{ ours: number[][]; truth: number[][] } | undefined> {
  const policies = world.policies.map(
    ({ isRestrictive, expression }, n) =>
      `CREATE POLICY p${n} ON exact AS ${isRestrictive && n > 0 ? 'RESTRICTIVE' : 'PERMISSIVE'} USING (${expression})`,
  );
  const values = world.rows.map((row, id) => `(${[String(id), ...row].map(literal).join(', ')})`);
  const inserted = (table: string, rows: ExactWorld['members']) =>
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
      return await compared(world, oid, mutate);
    } catch (error) {
      // Other tests make roles.
      if (!(error instanceof StaleFacts)) throw error;
    }
  }
}

async function compared(
  world: ExactWorld,
  oid: number,
  mutate: (predicate: Predicate) => Predicate,
): Promise<{ ours: number[][]; truth: number[][] } | undefined> {
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
  const parameters = await authorizer.evaluateParameters(facts, DEFAULT_DB_ROLE, viewers);
  for (const [n, own] of parameters.entries()) if (own !== undefined) index.add(n, own.parameters);
  counts.compiled += 1;
  if (index.isIndexed) counts.indexed += 1;
  if (privileges.policyCompilation.compiled.memberships.length > 0) counts.memberships += 1;
  const ours: number[][] = viewers.map(() => []);
  for (const [id, image] of (await images()).entries())
    for (const n of index.find(new TypedRow(image))) ours[n]?.push(id);
  const truth: number[][] = [];
  for (const { userId, claims } of viewers) {
    const [row] = await database.query<{ seen: number[] }>('SELECT public.sees($1, $2, $3, $4) AS seen', [
      DEFAULT_DB_ROLE,
      userId,
      claims,
      world.rows.length,
    ]);
    truth.push(row?.seen ?? []);
  }
  // For whom a setting cannot be evaluated PostgreSQL judges.
  const isOurs = (_: unknown, n: number) => parameters[n] !== undefined;
  counts.cases += parameters.filter(isOurs).length * world.rows.length;
  counts.visible += truth.filter(isOurs).flat().length;
  return { ours: ours.filter(isOurs), truth: truth.filter(isOurs) };
}

/** Which rows a condition is true of, in process and in PostgreSQL. */
async function conditions({
  condition,
  rows,
}: ExactWorld): Promise<{ ours: number[]; truth: number[] } | undefined> {
  const facts = await authorizer.facts(await oidOf());
  if (facts === undefined) throw new Error('no table');
  const parsed = parseCondition(condition.replaceAll('public.mood', 'text'), facts.columns);
  const exact = await authorizer.compileCondition(facts, parsed);
  if (!('compiled' in exact)) return undefined;
  const holds = testOf(exact.compiled.predicate);
  const ours = (await images()).flatMap((image, id) => (holds(new TypedRow(image), []) === true ? [id] : []));
  const found = await database.query<{ id: number }>(
    `SELECT id FROM public.exact WHERE ${parsed.sql} ORDER BY id`,
  );
  counts.conditions += 1;
  counts.cases += rows.length;
  return { ours, truth: found.map(({ id }) => id) };
}

async function oidOf(): Promise<number> {
  const [row] = await sql<{ oid: number }>(test.url, `SELECT 'exact'::regclass::oid::int AS oid`);
  return row?.oid ?? 0;
}

/** The rows as the log has them. */
async function images(): Promise<RowImage[]> {
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

describe('policies and conditions that are compiled', () => {
  it(
    `show what a SELECT shows, in ${CASES} cases of seed ${SEED}`,
    async () => {
      await fc.assert(
        fc.asyncProperty(exactWorld, async (world) => {
          counts.worlds += 1;
          const rows = await judged(world, unchanged).catch(refused);
          expect(rows?.ours).toEqual(rows?.truth);
          const holding = await conditions(world).catch(refused);
          expect(holding?.ours).toEqual(holding?.truth);
        }),
        {
          seed: SEED,
          numRuns: Math.ceil(CASES / CASES_A_WORLD),
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
      everywhere(predicate, (part) =>
        part.kind === 'compare' && part.operator === '<=' ? { ...part, operator: '<' } : part,
      ),
    'NULL as false': (predicate) =>
      everywhere(predicate, (part) =>
        part.kind === 'compare' || part.kind === 'any' ? { kind: 'is', part, truth: true } : part,
      ),
    'a restrictive policy left out': (predicate) =>
      predicate.kind === 'and' ? { ...predicate, parts: predicate.parts.slice(1) } : predicate,
    'one of several permissive policies left out': (predicate) =>
      everywhere(predicate, (part) => (part.kind === 'or' ? { ...part, parts: part.parts.slice(1) } : part)),
  };
  it.each(Object.entries(mutations))('are told from a wrong compiler: %s', async (_, mutate) => {
    const { failed } = await fc.check(
      fc.asyncProperty(exactWorld, async (world) => {
        const rows = await judged(world, mutate).catch(refused);
        return JSON.stringify(rows?.ours) === JSON.stringify(rows?.truth);
      }),
      { seed: SEED, numRuns: Math.ceil(20_000 / CASES_A_WORLD), endOnFailure: true },
    );
    expect(failed).toBe(true);
  });
});

/** PostgreSQL, or the condition's parser, takes no such expression: two types that do not compare, a malformed literal. */
function refused(error: unknown): undefined {
  const isRefusal =
    error instanceof Error &&
    (error.name === 'ProtocolError' || ('code' in error && /^(?:22|42)/.test(String(error.code))));
  if (!isRefusal) throw error;
  return undefined;
}

function everywhere(predicate: Predicate, change: (part: Predicate) => Predicate): Predicate {
  switch (predicate.kind) {
    case 'and':
    case 'or':
      return change({ ...predicate, parts: predicate.parts.map((part) => everywhere(part, change)) });
    case 'not':
    case 'is':
      return change({ ...predicate, part: everywhere(predicate.part, change) });
    case 'compare':
    case 'distinct':
    case 'any':
    case 'like':
    case 'isNull':
    case 'holds':
      return change(predicate);
  }
}
