import { SUBSCRIBER_ROLE } from '../migrations/subscriber-role.js';
import type { Sql } from '../sql/sql.js';

/** Whether subscribers can see rows of a table at all, by role. Names are quoted as SQL needs them. */
export interface TableReachability {
  readonly oid: number;
  /** Qualified. */
  readonly table: string;
  readonly schema: string;
  readonly login: string;
  readonly serverVersion: number;
  /** The roles that subscribers are evaluated as: `realtime_subscriber`, and those of REALTIME_DB_ROLES. */
  readonly roles: readonly SubscriberRole[];
  /** The policies for SELECT, by name. */
  readonly policies: readonly SelectPolicy[];
}

/** What a role needs before any row of the table can reach it. */
export interface RoleAccess {
  readonly name: string;
  readonly exists: boolean;
  /**
   * A superuser, or a role with BYPASSRLS: no subscriber is evaluated as one. Of a policy's role, the owner
   * too.
   */
  readonly bypassesPolicies: boolean;
  /** Whether the server's login can SET ROLE to it. */
  readonly isGranted: boolean;
  readonly canUseSchema: boolean;
  /** The table or at least one of its columns. */
  readonly canSelect: boolean;
}

export interface SubscriberRole extends RoleAccess {
  /** Not quoted. */
  readonly rawName: string;
  /** A permissive policy applies to it, or row level security does not. */
  readonly passesPolicies: boolean;
}

export interface SelectPolicy {
  readonly name: string;
  readonly permissive: boolean;
  /** `USING (true)` */
  readonly isAlwaysTrue: boolean;
  /** `PUBLIC` alone, or the roles that it is TO. */
  readonly roles: readonly RoleAccess[];
  /** The subscriber roles that it applies to. */
  readonly appliesTo: readonly string[];
}

export interface ReachabilityOptions {
  /** SQL of a list of table oids. */
  readonly oids: string;
  /** The roles of REALTIME_DB_ROLES. */
  readonly dbRoles: readonly string[];
  /** False: policies are not applied (REALTIME_ENABLE_RLS). */
  readonly enableRls: boolean;
}

/** Reads what roles and policies let subscribers see of tables. */
export function readReachability(
  sql: Sql,
  { oids, dbRoles, enableRls }: ReachabilityOptions,
  values: readonly unknown[] = [],
): Promise<TableReachability[]> {
  const at = values.length;
  return sql.query<TableReachability>(reachabilitySql(oids, `$${at + 1}::text[]`, `$${at + 2}::boolean`), [
    ...values,
    [...new Set([SUBSCRIBER_ROLE, ...dbRoles])],
    enableRls,
  ]);
}

export function canSee(role: SubscriberRole): boolean {
  return isUsable(role) && role.canUseSchema && role.canSelect && role.passesPolicies;
}

/** Whether subscribers can be evaluated as the role, whatever it may do with tables. */
export function isUsable({ exists, bypassesPolicies, isGranted }: RoleAccess): boolean {
  return exists && !bypassesPolicies && isGranted;
}

/** The privilege type of `pg_has_role` for SET ROLE. */
export const SET_PRIVILEGE = `CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END`;

/**
 * Whether policies do not apply to the role `r`, since it has the privileges of the owner of the table `c`.
 */
const OWNS = `NOT c.relforcerowsecurity AND coalesce(pg_has_role(r.oid, c.relowner, 'USAGE'), false)`;

/** The fields of RoleAccess for the role `r` (NULL: missing) called `name`. */
const accessSql = (name: string, bypasses: string) => `
        'name', quote_ident(${name}), 'exists', r.oid IS NOT NULL,
        'bypassesPolicies', coalesce(${bypasses}, false),
        'isGranted', coalesce(pg_has_role(r.oid, ${SET_PRIVILEGE}), false),
        'canUseSchema', coalesce(has_schema_privilege(r.oid, n.oid, 'USAGE'), false),
        'canSelect', coalesce(has_any_column_privilege(r.oid, c.oid, 'SELECT'), false)`;

/** Whether the policy `p` applies to the role `r` (PostgreSQL manual, "CREATE POLICY"). */
const APPLIES = `(0 = ANY (p.polroles) OR EXISTS (
          SELECT FROM unnest(p.polroles) AS named(oid) WHERE pg_has_role(r.oid, named.oid, 'USAGE')))`;

const IS_FOR_SELECT = `p.polrelid = c.oid AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL`;

const reachabilitySql = (oids: string, roles: string, enableRls: string) => `
  SELECT c.oid::int8::float8 AS oid, format('%I.%I', n.nspname, c.relname) AS table, quote_ident(n.nspname) AS schema,
    quote_ident(current_user) AS login, current_setting('server_version_num')::int AS "serverVersion",
    (SELECT json_agg(json_build_object(${accessSql('given.name', `${enableRls} AND (r.rolsuper OR r.rolbypassrls)`)},
        'rawName', given.name,
        'passesPolicies', NOT ${enableRls} OR NOT c.relrowsecurity OR ${OWNS}
          OR r.oid IS NOT NULL AND EXISTS (SELECT FROM pg_policy p WHERE ${IS_FOR_SELECT} AND p.polpermissive AND ${APPLIES})
      ) ORDER BY given.n)
     FROM unnest(${roles}) WITH ORDINALITY AS given(name, n) LEFT JOIN pg_roles r ON r.rolname = given.name) AS roles,
    (SELECT coalesce(json_agg(json_build_object('name', quote_ident(p.polname), 'permissive', p.polpermissive,
        'isAlwaysTrue', pg_get_expr(p.polqual, p.polrelid) = 'true',
        'appliesTo', (SELECT coalesce(json_agg(quote_ident(r.rolname)), '[]') FROM pg_roles r
          WHERE r.rolname = ANY (${roles}) AND ${APPLIES}),
        'roles', (SELECT json_agg(CASE WHEN named.oid = 0 THEN json_build_object('name', 'PUBLIC', 'exists', false,
              'bypassesPolicies', false, 'isGranted', false, 'canUseSchema', false, 'canSelect', false)
            ELSE json_build_object(${accessSql('r.rolname', `r.rolsuper OR r.rolbypassrls OR ${OWNS}`)}) END ORDER BY r.rolname)
          FROM unnest(p.polroles) AS named(oid) LEFT JOIN pg_roles r ON r.oid = named.oid)
      ) ORDER BY p.polname), '[]')
     FROM pg_policy p WHERE ${IS_FOR_SELECT}) AS policies
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid IN (${oids}) ORDER BY 2`;
