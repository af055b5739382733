import type { Sql } from '../../../postgres/sql/sql.js';
import type { TableFacts } from '../../model/table-facts.js';
import type { Compilation } from '../compiling/compiled-expression.js';
import type { Policy, RolePrivileges } from '../role-privileges.js';
import { compileExpression, type MembershipTables } from './compile-expression.js';
import { callsWithoutArguments, withSubSelects } from './sub-select-wrapping.js';

/** The privileges of a role with the expression that its policies amount to. */
export interface CompiledPrivileges extends RolePrivileges {
  /** SQL over a row of the table under its own name; null unless rows are filtered. */
  readonly predicate: string | null;
}

interface PrivilegesRow {
  readonly may_use_schema: boolean;
  readonly may_select: boolean;
  readonly is_superuser_or_bypassrls: boolean;
  readonly columns: readonly string[];
  /** Row level security is off for the table, or does not apply to the role. */
  readonly bypasses_policies: boolean;
  readonly policies: readonly Policy[];
  readonly reads: readonly string[];
}

const NO_COLUMNS: ReadonlySet<string> = new Set();
const DENIED: CompiledPrivileges = {
  canSelect: false,
  columns: NO_COLUMNS,
  rows: 'none',
  reads: NO_COLUMNS,
  predicate: null,
  policies: [],
  policyCompilation: { reason: 'the role has no privilege to read the table' },
};
/** No subscriber is evaluated as a role that bypasses policies, so that a wrong setting exposes nothing. */
const BYPASSES_POLICIES: CompiledPrivileges = {
  ...DENIED,
  policyCompilation: {
    reason: 'the role is a superuser or has BYPASSRLS, and no subscriber is evaluated as such a role',
  },
};

/** Reads the privileges of a role on a table. A role that does not exist has none. */
export async function readPrivileges(
  sql: Sql,
  facts: TableFacts,
  role: string,
  applyPolicies: boolean,
  membershipTables: MembershipTables,
): Promise<CompiledPrivileges> {
  const [row] = await sql.query<PrivilegesRow>(PRIVILEGES, [facts.oid, role]);
  if (row === undefined || !row.may_use_schema || !(row.may_select || row.columns.length > 0)) return DENIED;
  if (row.is_superuser_or_bypassrls && applyPolicies) return BYPASSES_POLICIES;
  const seen = { ...DENIED, canSelect: true, columns: new Set(row.columns) };
  if (row.bypasses_policies || !applyPolicies) return { ...seen, rows: 'all' };
  const { policies } = row;
  const predicate = composed(policies);
  if (predicate === null) return { ...seen, policies, rows: 'none' };
  return {
    ...seen,
    policies,
    rows: 'filtered',
    policyCompilation: await compilationOf(sql, facts, policies, predicate, membershipTables),
    reads: columnsRead(facts, row, predicate),
    predicate: withSubSelects(predicate, await stableFunctions(sql, predicate)),
  };
}

/** Compiles the policies if each is compilable; the reason names the first that is not. */
async function compilationOf(
  sql: Sql,
  facts: TableFacts,
  policies: readonly Policy[],
  predicate: string,
  membershipTables: MembershipTables,
): Promise<Compilation> {
  const whole = await compileExpression(sql, facts, predicate, membershipTables);
  if ('compiled' in whole) return whole;
  for (const { name, expression } of policies) {
    const alone = await compileExpression(sql, facts, expression, membershipTables);
    if ('reason' in alone) return { reason: `policy ${name}: ${alone.reason}` };
  }
  return whole;
}

/**
 * Combines the policies (PostgreSQL manual, "Row Security Policies"): at least one permissive and all
 * restrictive ones must be true; null without a permissive one. Policies without an expression do not count.
 */
function composed(policies: PrivilegesRow['policies']): string | null {
  const permissive = policies
    .filter((policy) => policy.permissive)
    .map(({ expression }) => `(${expression})`);
  if (permissive.length === 0) return null;
  const restrictive = policies
    .filter((policy) => !policy.permissive)
    .map(({ expression }) => `(${expression})`);
  return [...restrictive, `(${permissive.join(' OR ')})`].join(' AND ');
}

/**
 * Returns the columns that the policies read: all of them if a policy reads the whole row or a generated
 * column.
 */
function columnsRead(facts: TableFacts, { reads }: PrivilegesRow, predicate: string): ReadonlySet<string> {
  const takesAll =
    predicate.includes('.*') ||
    facts.columns.some(({ name, generated }) => generated !== null && reads.includes(name));
  return new Set(takesAll ? facts.columns.map(({ name }) => name) : reads);
}

async function stableFunctions(sql: Sql, predicate: string): Promise<ReadonlySet<string>> {
  const called = callsWithoutArguments(predicate);
  if (called.length === 0) return NO_COLUMNS;
  const rows = await sql.query<{ name: string }>(
    `SELECT called.name FROM unnest($1::text[]) AS called(name)
     JOIN pg_catalog.pg_proc p ON p.oid = to_regprocedure(called.name || '()')
     WHERE p.provolatile IN ('s', 'i') AND NOT p.proretset AND p.prokind = 'f'`,
    [called],
  );
  return new Set(rows.map(({ name }) => name));
}

const PRIVILEGES = `
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
    r.rolsuper OR r.rolbypassrls AS is_superuser_or_bypassrls,
    NOT c.relrowsecurity
      OR NOT c.relforcerowsecurity AND pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE') AS bypasses_policies,
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
