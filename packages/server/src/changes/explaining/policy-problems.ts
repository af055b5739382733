import { canSee, type TableReachability } from '../../postgres/preflight/table-reachability.js';
import type { Sql } from '../../postgres/sql/sql.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Viewer } from '../model/viewer.js';
import { rowArrayLiteral } from '../values/row-array-literal.js';
import type { Authorizer, EvaluationError } from '../visibility/authorizer.js';
import type { Policy } from '../visibility/role-privileges.js';
import { evaluateEach, rowVersionSql } from './policy-evaluation.js';

type Database = Sql & { transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> };

/**
 * User ids of made-up users: a policy that casts the id to the application's type raises an error for one of
 * them only.
 */
const USER_IDS = ['00000000-0000-4000-8000-000000000000', '1'];
const LOCK_TIMEOUT_MS = 200;
/**
 * What does not come from the policy: time limits, the read-only transaction, resources, PostgreSQL itself.
 */
const NOT_OF_POLICY = /^(?:25|53|55|57|58|XX)/;
const MAX_MESSAGE_LENGTH = 200;

/** Live changes do not wait for a policy that takes longer for each user, in ms. */
const SLOW_MS = 50;

/** Policies with problems, a sentence for each. */
interface PolicyProblems {
  readonly failing: readonly string[];
  readonly slow: readonly string[];
}

/**
 * Finds policies that raise an error whatever the row and the user id are, and those that are slow. Evaluates each for
 * made-up users, whose tokens have `sub`, `role` and the claims of `claimSettings` (names of settings), over a
 * row of NULLs, in a read-only transaction that is rolled back. Policies that call a VOLATILE function are left out: what that does outside the
 * transaction stays.
 */
export async function findPolicyProblems(
  database: Database,
  authorizer: Pick<Authorizer, 'facts' | 'privileges'>,
  tables: readonly TableReachability[],
  claimSettings: readonly string[],
): Promise<PolicyProblems> {
  const failing = new Set<string>();
  const slow = new Set<string>();
  const viewersOf = (role: string) => USER_IDS.map((userId) => viewerOf(userId, role, claimSettings));
  for (const { oid, table, roles } of tables) {
    const facts = await authorizer.facts(oid);
    if (facts === undefined || !(await canReadNulls(database, facts))) continue;
    const volatile = await volatilePolicies(database, oid);
    for (const role of roles.filter(canSee)) {
      const { rows, policies } = await authorizer.privileges(facts, role.rawName);
      if (rows !== 'filtered') continue;
      const evaluated = policies.filter(({ name }) => !volatile.has(name));
      const viewers = viewersOf(role.rawName);
      const { errors, times } = await evaluate(database, facts, evaluated, viewers);
      for (const [name, error] of errors)
        failing.add(
          `Policy ${name} of ${table}: ${error.sqlstate}, ${error.message.slice(0, MAX_MESSAGE_LENGTH)}.`,
        );
      // Once more: the first time includes what PostgreSQL does only once in a session.
      const candidates = evaluated.filter(({ name }) => (times.get(name) ?? 0) > SLOW_MS);
      if (candidates.length === 0) continue;
      const again = await evaluate(database, facts, candidates, viewers);
      for (const [name, ms] of again.times)
        if (ms > SLOW_MS) slow.add(`Policy ${name} of ${table}: ${Math.round(ms)} ms.`);
    }
  }
  return { failing: [...failing], slow: [...slow] };
}

/** The errors of policies that raise one for every made-up user, and the longest time of each policy, by name. */
async function evaluate(
  database: Database,
  facts: TableFacts,
  policies: readonly Policy[],
  viewers: readonly Viewer[],
): Promise<{
  readonly errors: ReadonlyMap<string, EvaluationError>;
  readonly times: ReadonlyMap<string, number>;
}> {
  const times = new Map<string, number>();
  const observe = ({ name }: Policy, ms: number) => void times.set(name, Math.max(ms, times.get(name) ?? 0));
  let errors = new Map<string, EvaluationError>();
  let remaining = policies;
  for (const viewer of viewers) {
    const results = await readOnly(database, (sql) =>
      evaluateEach(sql, facts, remaining, viewer, nullsOf(facts), observe),
    );
    errors = new Map(
      results.flatMap(({ name, error }) =>
        error === undefined || NOT_OF_POLICY.test(error.sqlstate) ? [] : [[name, error] as const],
      ),
    );
    remaining = policies.filter(({ name }) => errors.has(name));
    if (remaining.length === 0) break;
  }
  return { errors, times };
}

/** Settings made from claims have the user id as their value: an application's type may be either. */
function viewerOf(userId: string, role: string, claimSettings: readonly string[]): Viewer {
  const settings = claimSettings.map((name) => ({ name, value: userId }));
  return { key: userId, role, userId, claims: JSON.stringify({ sub: userId, role }), settings };
}

/** A column's domain may refuse NULL, or a generated column's expression: then there is no such row. */
async function canReadNulls(database: Database, facts: TableFacts): Promise<boolean> {
  const columns = `SELECT count(r::text) FROM (SELECT * FROM ${rowVersionSql(facts)}) AS r`;
  try {
    await readOnly(database, (sql) => sql.query(columns, [rowArrayLiteral([nullsOf(facts)])]));
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && 'severity' in error) return false;
    throw error;
  }
}

function nullsOf({ columns }: TableFacts): null[] {
  return columns.map(() => null);
}

/** Reads the called functions from the stored expression: pg_depend has no rows for built-in ones. */
async function volatilePolicies(sql: Sql, oid: number): Promise<ReadonlySet<string>> {
  const rows = await sql.query<{ name: string }>(
    `SELECT p.polname::text AS name FROM pg_catalog.pg_policy p WHERE p.polrelid = $1 AND EXISTS (
       SELECT FROM pg_catalog.regexp_matches(p.polqual::text, ':(?:op)?funcid (\\d+)', 'g') AS called
       JOIN pg_catalog.pg_proc f ON f.oid::text = called[1] WHERE f.provolatile = 'v')`,
    [oid],
  );
  return new Set(rows.map(({ name }) => name));
}

function readOnly<T>(database: Database, work: (sql: Sql) => Promise<T>): Promise<T> {
  return database.transaction(async (sql) => {
    await sql.query('SET TRANSACTION READ ONLY');
    await sql.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
    return work(sql);
  });
}
