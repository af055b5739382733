import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadParser } from '../../packages/server/src/changes/expressions/parse-expression.js';
import { DEFAULT_DB_ROLE } from '../../packages/server/src/changes/model/viewer.js';
import { PostgresAuthorizer } from '../../packages/server/src/changes/visibility/evaluating/postgres-authorizer.js';
import { parseCondition } from '../../packages/server/src/changes/visibility/parse-condition.js';
import { StaleFacts } from '../../packages/server/src/changes/visibility/stale-facts.js';
import type { Database } from '../../packages/server/src/postgres/connection/database.js';
import { connectedDatabase } from '../support/connected-database.js';
import { createTestDatabase, sql, type TestDatabase } from '../support/postgres-database.js';
import { Random } from './random.js';
import { FOUNDATION, makeWorld, type World } from './world.js';

/**
 * Change these with `npm run test:fuzz -- --cases N --seed S`. A case is one row version and one viewer or
 * condition.
 */
const CASES = Number(process.env.FUZZ_CASES ?? 2_000);
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_126);

/**
 * Functions that return which rows a SELECT under row level security shows a viewer, and which rows match a
 * condition.
 */
const TRUTH = `
  CREATE FUNCTION truth(role text, usr text, claims text, ids int[]) RETURNS int[] LANGUAGE plpgsql AS $$
  DECLARE seen int[] := '{}'; found int;
  BEGIN
    PERFORM set_config('role', role, true), set_config('app.current_user_id', usr, true),
      set_config('request.jwt.claims', claims, true);
    FOR i IN 1 .. cardinality(ids) LOOP
      BEGIN
        EXECUTE 'SELECT id FROM public.t WHERE id = $1' INTO found USING ids[i];
        IF found IS NOT NULL THEN seen := seen || found; END IF;
      EXCEPTION WHEN OTHERS THEN NULL;
      END;
    END LOOP;
    RETURN seen;
  END $$;
  CREATE FUNCTION holds(condition text, ids int[]) RETURNS int[] LANGUAGE plpgsql AS $$
  DECLARE seen int[] := '{}'; found bool;
  BEGIN
    FOR i IN 1 .. cardinality(ids) LOOP
      BEGIN
        EXECUTE 'SELECT (' || condition || ') FROM public.t WHERE id = $1' INTO found USING ids[i];
        IF found THEN seen := seen || ids[i]; END IF;
      EXCEPTION WHEN OTHERS THEN NULL;
      END;
    END LOOP;
    RETURN seen;
  END $$;`;

let test: TestDatabase;
let database: Database;
let authorizer: PostgresAuthorizer;
let roles: string[];

beforeAll(async () => {
  await loadParser();
  test = await createTestDatabase();
  database = await connectedDatabase(test.url);
  const suffix = randomBytes(4).toString('hex');
  const [one, two] = [`fuzz_one_${suffix}`, `fuzz_two_${suffix}`];
  roles = [DEFAULT_DB_ROLE, one, two];
  await sql(
    test.url,
    `${FOUNDATION}; ${TRUTH}; CREATE ROLE ${one}; CREATE ROLE ${two}; GRANT ${one} TO ${two}`,
  );
  authorizer = new PostgresAuthorizer({ database, enableRls: true, clock: () => performance.now() });
});

afterAll(async () => {
  authorizer.stop();
  await database.stop();
  await sql(
    test.url,
    `DROP TABLE IF EXISTS t; ${roles
      .slice(1)
      .map((role) => `DROP OWNED BY ${role}; DROP ROLE ${role}`)
      .join(';')}`,
  );
  await test.drop();
});

/** Returns, for each viewer, the indexes of the rows that the authorizer would deliver. */
async function visibleByAuthorizer({ rows, viewers }: World, oid: number): Promise<number[][]> {
  const facts = await authorizer.facts(oid);
  if (facts === undefined) throw new Error('no table');
  const all = rows.map((_, n) => n);
  const seen: number[][] = [];
  for (const { role, userId, claims } of viewers) {
    const privileges = await authorizer.privileges(facts, role);
    if (!privileges.canSelect || privileges.rows === 'none') seen.push([]);
    else if (privileges.rows === 'all') seen.push(all);
    else {
      const key = JSON.stringify([role, userId, claims]);
      const viewer = { key, role, userId, claims, settings: [] };
      const [evaluated] = await authorizer.evaluatePolicies(facts, rows, [{ viewer, rows: all }], []);
      seen.push([...(evaluated?.visible ?? [])].sort((a, b) => a - b));
    }
  }
  return seen;
}

/** Retries when the catalog has changed: roles are shared by all databases, and other tests create some. */
async function retryWhenStale<T>(evaluate: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await evaluate();
    } catch (error) {
      if (!(error instanceof StaleFacts)) throw error;
    }
  }
}

/**
 * Returns, for each viewer and then for each condition, the ids of the rows that PostgreSQL shows or matches.
 */
async function visibleInPostgres(world: World): Promise<number[][]> {
  return database.transaction(async (statements) => {
    for (const [id, a, b, c, u] of world.rows)
      await statements.query('INSERT INTO public.t (id, a, b, c, u) VALUES ($1, $2, $3, $4, $5)', [
        id,
        a,
        b,
        c,
        u,
      ]);
    const ids = world.rows.map(([id]) => Number(id));
    const seen: number[][] = [];
    for (const { role, userId, claims } of world.viewers) {
      await statements.query('SAVEPOINT context');
      const [row] = await statements.query<{ seen: number[] }>(
        'SELECT public.truth($1, $2, $3, $4) AS seen',
        [role, userId, claims, ids],
      );
      await statements.query('ROLLBACK TO context');
      seen.push(row?.seen ?? []);
    }
    for (const condition of world.conditions) {
      const [row] = await statements.query<{ seen: number[] }>('SELECT public.holds($1, $2) AS seen', [
        condition,
        ids,
      ]);
      seen.push(row?.seen ?? []);
    }
    await statements.query('TRUNCATE public.t');
    return seen;
  });
}

/** Returns, for each condition, the indexes of the rows that match it by the authorizer. */
async function matchedByAuthorizer({ rows, conditions }: World, oid: number): Promise<number[][]> {
  const facts = await authorizer.facts(oid);
  if (facts === undefined) throw new Error('no table');
  const all = [...rows.keys()];
  const requests = conditions.map((text) => ({
    condition: parseCondition(text, facts.columns),
    rows: all,
    payers: [],
  }));
  const evaluated = await authorizer.evaluateConditions(facts, rows, requests);
  return evaluated.map(({ visible }) => [...visible].sort((a, b) => a - b));
}

it(
  `the rows that are delivered are those that a SELECT shows, in ${CASES} cases of seed ${SEED}`,
  async () => {
    let cases = 0;
    let visible = 0;
    for (let seed = SEED; cases < CASES; seed++) {
      const world = makeWorld(new Random(seed), roles);
      await sql(test.url, world.statements);
      const [row] = await sql<{ oid: number }>(test.url, `SELECT 't'::regclass::oid::int AS oid`);
      const oid = row?.oid ?? 0;
      const actual = await retryWhenStale(async () => [
        ...(await visibleByAuthorizer(world, oid)),
        ...(await matchedByAuthorizer(world, oid)),
      ]);
      const truth = await visibleInPostgres(world);
      expect({ seed, ...world, seen: actual }).toEqual({ seed, ...world, seen: truth });
      cases += truth.length * world.rows.length;
      visible += truth.flat().length;
      if (process.env.FUZZ_CASES !== undefined && seed % 100 === 0)
        console.info(`${cases} cases, 0 differences`);
    }
    console.info(`visibility: ${cases} cases (${visible} visible), 0 differences, seed ${SEED}`);
  },
  Math.max(120_000, CASES * 20),
);
