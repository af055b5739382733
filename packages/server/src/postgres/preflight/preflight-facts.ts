import { SUBSCRIBER_ROLE } from '../migrations/subscriber-role.js';
import type { Sql } from '../sql/sql.js';
import { readReachability, SET_PRIVILEGE, type TableReachability } from './table-reachability.js';
import { hasOurTriggers, isHandMade } from './trigger-checks.js';

/** The facts about PostgreSQL that decide whether row changes can be read. */
export interface PreflightFacts {
  readonly version: number;
  readonly walLevel: string;
  readonly isStandby: boolean;
  readonly user: string;
  readonly database: string;
  readonly canReplicate: boolean;
  readonly canSetRole: boolean;
  readonly canCreateRole: boolean;
  readonly hasSubscriberRole: boolean;
  readonly canCreate: boolean;
  readonly canCreateTemporary: boolean;
  /** Whether policies do not apply to the default subscriber role. */
  readonly subscriberBypassesRls: boolean;
  /**
   * How many connections PostgreSQL leaves to our login: without those that it reserves, and at most the limits of the
   * role and of the database.
   */
  readonly connections: number;
  readonly slots: { readonly used: number; readonly max: number };
  readonly senders: { readonly used: number; readonly max: number };
  readonly slot: SlotRow | null;
  readonly publication: PublicationRow | null;
  /** Enabled tables that are not in the publication. */
  readonly unpublished: readonly string[];
  /** Enabled tables with a hand-made trigger, from the specification's SQL. */
  readonly handMade: readonly string[];
  /** With the trigger source: enabled tables that lack one of its triggers. */
  readonly untriggered: readonly string[];
  /** Roles of REALTIME_DB_ROLES that no subscriber can be evaluated as, each with the reason. */
  readonly unusableRoles: readonly string[];
  /**
   * Subscriber roles with the privileges of a table's owner, to which its policies do not apply: `<role> on
   * <table>`.
   */
  readonly owned: readonly string[];
  /**
   * Tables whose policies do not apply to our login for the same reason; empty if no policies apply to it at
   * all.
   */
  readonly ownedByLogin: readonly string[];
  /** Which subscriber roles can see rows of each enabled table. */
  readonly reachability: readonly TableReachability[];
  /** Enabled tables without a replica identity: UPDATE and DELETE of the application fail on them. */
  readonly unidentified: readonly string[];
}

interface SlotRow {
  readonly plugin: string | null;
  readonly type: string;
  readonly database: string | null;
  readonly walStatus: string | null;
  readonly isTemporary: boolean;
  /** Bytes of WAL that the slot retains, and that it may retain in addition (null: no limit). */
  readonly retained: number | null;
  readonly safe: number | null;
}

interface PublicationRow {
  readonly isOurs: boolean;
  readonly owner: string;
  readonly viaRoot: boolean;
  readonly isComplete: boolean;
}

export interface PreflightNames {
  readonly slot: string;
  readonly publication: string;
  /** The schema of our tables. */
  readonly schema: string;
  /** The roles of REALTIME_DB_ROLES. */
  readonly dbRoles: readonly string[];
  /** REALTIME_ENABLE_RLS */
  readonly enableRls: boolean;
}

/** Reads the facts in two queries. */
export async function preflightFacts(
  sql: Sql,
  { slot, publication, schema, dbRoles, enableRls }: PreflightNames,
): Promise<PreflightFacts> {
  const [row] = await sql.query<{ facts: Omit<PreflightFacts, 'reachability'> }>(FACTS(schema), [
    slot,
    publication,
    SUBSCRIBER_ROLE,
    dbRoles,
  ]);
  if (row === undefined) throw new Error('PostgreSQL answered nothing');
  const oids = `SELECT t.oid FROM ${schema}.tables t`;
  return { ...row.facts, reachability: await readReachability(sql, { oids, dbRoles, enableRls }) };
}

/** Whether the policies of the table `c` do not apply to its owner. */
const IS_UNFORCED = 'c.relrowsecurity AND NOT c.relforcerowsecurity';

const FACTS = (schema: string) => `
  SELECT json_build_object(
    'version', current_setting('server_version_num')::int,
    'walLevel', current_setting('wal_level'),
    'isStandby', pg_is_in_recovery(),
    'user', current_user,
    'database', current_database(),
    'canReplicate', me.rolreplication OR me.rolsuper,
    'canSetRole', EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $3 AND pg_has_role(me.oid, r.oid, ${SET_PRIVILEGE})),
    'canCreateRole', me.rolcreaterole OR me.rolsuper,
    'hasSubscriberRole', EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $3),
    'canCreate', has_database_privilege(current_database(), 'CREATE'),
    'canCreateTemporary', has_database_privilege(current_database(), 'TEMPORARY'),
    'subscriberBypassesRls', EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $3 AND (r.rolbypassrls OR r.rolsuper)),
    'connections', (
      SELECT CASE WHEN me.rolsuper THEN free.n ELSE least(free.n, nullif(me.rolconnlimit, -1), nullif(d.datconnlimit, -1)) END
      FROM pg_database d, (SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)) AS free(n)
      WHERE d.datname = current_database()),
    'slots', json_build_object(
      'used', (SELECT count(*) FROM pg_replication_slots),
      'max', current_setting('max_replication_slots')::int),
    'senders', json_build_object(
      'used', (SELECT count(*) FROM pg_stat_get_wal_senders()),
      'max', current_setting('max_wal_senders')::int),
    'slot', (
      SELECT json_build_object('plugin', s.plugin, 'type', s.slot_type, 'database', s.database,
        'walStatus', s.wal_status, 'isTemporary', s.temporary, 'safe', s.safe_wal_size,
        'retained', CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - s.restart_lsn)::float8 END)
      FROM pg_replication_slots s WHERE s.slot_name = $1),
    'publication', (
      SELECT json_build_object('isOurs', pg_has_role(me.oid, p.pubowner, 'USAGE'),
        'owner', pg_get_userbyid(p.pubowner), 'viaRoot', p.pubviaroot,
        'isComplete', p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate)
      FROM pg_publication p WHERE p.pubname = $2),
    'unpublished', ${tablesWhere(
      schema,
      `NOT EXISTS (
        SELECT FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
        WHERE p.pubname = $2 AND pr.prrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = $2 AND p.puballtables)`,
    )},
    'handMade', ${tablesWhere(schema, isHandMade(schema))},
    'untriggered', ${tablesWhere(
      schema,
      `EXISTS (SELECT FROM ${schema}.change_source WHERE name = 'trigger')
      AND NOT ${isHandMade(schema)} AND NOT ${hasOurTriggers(schema)}`,
    )},
    'unusableRoles', (
      SELECT coalesce(json_agg(format('%I %s', given.name, why)), '[]')
      FROM unnest($4::text[]) AS given(name) LEFT JOIN pg_roles r ON r.rolname = given.name,
        LATERAL (SELECT CASE WHEN r.oid IS NULL THEN 'does not exist'
          WHEN r.rolsuper OR r.rolbypassrls THEN 'is a superuser or has BYPASSRLS'
          WHEN NOT pg_has_role(me.oid, r.oid, ${SET_PRIVILEGE}) THEN format('is not granted to %I', current_user) END) AS q(why)
      WHERE why IS NOT NULL),
    'owned', (
      SELECT coalesce(json_agg(format('%I on %I.%I', r.rolname, n.nspname, c.relname)), '[]')
      FROM ${schema}.tables t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_roles r ON r.rolname = ANY ($3::text || $4::text[])
      WHERE ${IS_UNFORCED} AND NOT r.rolsuper AND NOT r.rolbypassrls AND pg_has_role(r.oid, c.relowner, 'USAGE')),
    'ownedByLogin', ${tablesWhere(
      schema,
      `${IS_UNFORCED} AND NOT me.rolsuper AND NOT me.rolbypassrls AND pg_has_role(me.oid, c.relowner, 'USAGE')`,
    )},
    'unidentified', ${tablesWhere(
      schema,
      `c.relkind = 'r' AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))`,
    )}
  ) AS facts
  FROM pg_roles me WHERE me.rolname = current_user`;

/** SQL for the names of the enabled tables `c` that meet a condition. */
function tablesWhere(schema: string, condition: string): string {
  return `(
      SELECT coalesce(json_agg(format('%I.%I', n.nspname, c.relname)), '[]')
      FROM ${schema}.tables t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE ${condition})`;
}
