import type { Sql } from '../../postgres/sql.js';
import type { Exactness } from '../compiling/compiled-expression.js';
import type { Policy, RoleRights, TableFacts } from '../table-facts.js';
import { compileExact, type MemberTables } from './exact-expression.js';
import { callsWithoutArguments, withContextFolded } from './policy-text.js';

/** The rights of a role with the expression that its policies come to. */
export interface CompiledRights extends RoleRights {
  /** SQL over a row of the table under its own name; null unless judged. */
  readonly predicate: string | null;
}

interface RightsRow {
  readonly may_use_schema: boolean;
  readonly may_select: boolean;
  readonly is_beyond_policies: boolean;
  readonly columns: readonly string[];
  /** Row level security is off for the table, or this role passes it by. */
  readonly passes_by: boolean;
  readonly policies: readonly Policy[];
  readonly reads: readonly string[];
}

const NOTHING: ReadonlySet<string> = new Set();
const DENIED: CompiledRights = {
  canSelect: false,
  columns: NOTHING,
  rows: 'none',
  reads: NOTHING,
  predicate: null,
  policies: [],
  judging: { reason: 'the role may not read the table' },
};
/** Nobody subscribes as a role to which no policy applies, by an oversight least of all. */
const BEYOND_POLICIES: CompiledRights = {
  ...DENIED,
  judging: { reason: 'the role is a superuser or has BYPASSRLS, and nobody is judged as such a role' },
};

/** Reads what the role may do with the table. A role that does not exist may do nothing. */
export async function readRights(
  sql: Sql,
  facts: TableFacts,
  role: string,
  applyPolicies: boolean,
  memberTables: MemberTables,
): Promise<CompiledRights> {
  const [row] = await sql.query<RightsRow>(RIGHTS, [facts.oid, role]);
  if (row === undefined || !row.may_use_schema || !(row.may_select || row.columns.length > 0)) return DENIED;
  if (row.is_beyond_policies && applyPolicies) return BEYOND_POLICIES;
  const seen = { ...DENIED, canSelect: true, columns: new Set(row.columns) };
  if (row.passes_by || !applyPolicies) return { ...seen, rows: 'all' };
  const { policies } = row;
  const predicate = composed(policies);
  if (predicate === null) return { ...seen, policies, rows: 'none' };
  return {
    ...seen,
    policies,
    rows: 'judged',
    judging: await judgingOf(sql, facts, policies, predicate, memberTables),
    reads: columnsRead(facts, row, predicate),
    predicate: withContextFolded(predicate, await stableFunctions(sql, predicate)),
  };
}

/** In process where each policy is exact there. The reason names the first that is not. */
async function judgingOf(
  sql: Sql,
  facts: TableFacts,
  policies: readonly Policy[],
  predicate: string,
  memberTables: MemberTables,
): Promise<Exactness> {
  const whole = await compileExact(sql, facts, predicate, memberTables);
  if ('compiled' in whole) return whole;
  for (const { name, expression } of policies) {
    const alone = await compileExact(sql, facts, expression, memberTables);
    if ('reason' in alone) return { reason: `policy ${name}: ${alone.reason}` };
  }
  return whole;
}

/**
 * What all policies come to (PostgreSQL manual, "Row Security Policies"): one of the permissive ones and all of the
 * restrictive ones; null without a permissive one. Those that have no expression do not count.
 */
function composed(policies: RightsRow['policies']): string | null {
  const permissive = policies
    .filter((policy) => policy.permissive)
    .map(({ expression }) => `(${expression})`);
  if (permissive.length === 0) return null;
  const restrictive = policies
    .filter((policy) => !policy.permissive)
    .map(({ expression }) => `(${expression})`);
  return [...restrictive, `(${permissive.join(' OR ')})`].join(' AND ');
}

/** The columns that the policies read; all of them where a policy takes the row as a whole, or a generated column. */
function columnsRead(facts: TableFacts, { reads }: RightsRow, predicate: string): ReadonlySet<string> {
  const takesAll =
    predicate.includes('.*') ||
    facts.columns.some(({ name, generated }) => generated !== null && reads.includes(name));
  return new Set(takesAll ? facts.columns.map(({ name }) => name) : reads);
}

async function stableFunctions(sql: Sql, predicate: string): Promise<ReadonlySet<string>> {
  const called = callsWithoutArguments(predicate);
  if (called.length === 0) return NOTHING;
  const rows = await sql.query<{ name: string }>(
    `SELECT called.name FROM unnest($1::text[]) AS called(name)
     JOIN pg_catalog.pg_proc p ON p.oid = to_regprocedure(called.name || '()')
     WHERE p.provolatile IN ('s', 'i') AND NOT p.proretset AND p.prokind = 'f'`,
    [called],
  );
  return new Set(rows.map(({ name }) => name));
}

const RIGHTS = `
  WITH applied AS (
    SELECT p.* FROM pg_catalog.pg_policy p, pg_catalog.pg_roles r
    WHERE p.polrelid = $1 AND r.rolname = $2 AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL
      AND (0 = ANY (p.polroles) OR EXISTS (
        SELECT FROM unnest(p.polroles) AS named(oid) WHERE pg_catalog.pg_has_role(r.oid, named.oid, 'USAGE')))
  )
  SELECT
    pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE') AS may_use_schema,
    pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT') AS may_select,
    (SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       AND pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')) AS columns,
    r.rolsuper OR r.rolbypassrls AS is_beyond_policies,
    NOT c.relrowsecurity
      OR NOT c.relforcerowsecurity AND pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE') AS passes_by,
    (SELECT coalesce(json_agg(json_build_object('name', p.polname, 'permissive', p.polpermissive,
        'expression', pg_catalog.pg_get_expr(p.polqual, p.polrelid)) ORDER BY p.polname), '[]')
     FROM applied p) AS policies,
    (SELECT coalesce(json_agg(DISTINCT a.attname), '[]')
     FROM applied p
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = p.oid
       AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid > 0
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid) AS reads
  FROM pg_catalog.pg_class c, pg_catalog.pg_roles r
  WHERE c.oid = $1 AND r.rolname = $2`;
