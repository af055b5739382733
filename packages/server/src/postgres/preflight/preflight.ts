import { programName } from '../../lib/program-name.js';
import { POOLED_CONNECTIONS } from '../connection/pool-sizes.js';
import { SUBSCRIBER_ROLE } from '../migrations/subscriber-role.js';
import type { Finding } from '../source/change-source.js';
import { quoted } from '../sql/identifier.js';
import type { PreflightFacts, PreflightNames } from './preflight-facts.js';
import { unreachableWarning } from './reachability-advice.js';
import { isUsable } from './table-reachability.js';

/** The WAL budget of a slot where max_slot_wal_keep_size sets no limit, in bytes. */
export const WAL_BUDGET_BYTES = 4 * 1024 ** 3;

/** The connections of all pools, and the one that reads row changes. */
const CONNECTIONS_NEEDED = POOLED_CONNECTIONS + 1;

type Check = (facts: PreflightFacts, names: PreflightNames) => Omit<Finding, 'code'> | undefined;

/** The numbers of findings never change: documents and people refer to them. */
const CHECKS: readonly (readonly [code: string, check: Check])[] = [
  [
    'GF101',
    ({ walLevel }) =>
      walLevel === 'logical'
        ? undefined
        : error(
            `wal_level is ${walLevel}, not logical`,
            "ALTER SYSTEM SET wal_level = 'logical'; then restart PostgreSQL. Hosted: RDS and Aurora rds.logical_replication=1, Cloud SQL cloudsql.logical_decoding=on, Azure wal_level=logical, Neon and Supabase have a switch in their settings.",
          ),
  ],
  [
    'GF102',
    ({ version }) =>
      version >= 140_000 ? undefined : error('PostgreSQL is older than 14', 'Use PostgreSQL 14 or later.'),
  ],
  [
    'GF103',
    ({ isStandby }) =>
      isStandby ? error('PostgreSQL is a standby', 'Point DATABASE_URL at the primary server.') : undefined,
  ],
  [
    'GF104',
    ({ canReplicate, user }) =>
      canReplicate
        ? undefined
        : error(
            'the login is not allowed to replicate',
            `ALTER ROLE ${quoted(user)} REPLICATION; as a superuser. RDS: GRANT rds_replication TO ${quoted(user)}. Cloud SQL and Azure: ALTER USER ${quoted(user)} WITH REPLICATION.`,
          ),
  ],
  [
    'GF105',
    ({ publication, canCreate, user, database }) =>
      publication !== null || canCreate
        ? undefined
        : error(
            'the login is not allowed to create the publication',
            `GRANT CREATE ON DATABASE ${quoted(database)} TO ${quoted(user)};`,
          ),
  ],
  [
    'GF106',
    ({ publication, user }, names) =>
      publication === null || publication.isOurs
        ? undefined
        : error(
            'the publication belongs to another role',
            `ALTER PUBLICATION ${quoted(names.publication)} OWNER TO ${quoted(user)}; or set REALTIME_PUBLICATION_NAME to another name.`,
          ),
  ],
  [
    'GF107',
    ({ unpublished }, names) =>
      unpublished.length === 0
        ? undefined
        : warning(
            `${unpublished.length} enabled tables are not in the publication`,
            `ALTER PUBLICATION ${quoted(names.publication)} ADD TABLE ${unpublished.join(', ')};`,
          ),
  ],
  [
    'GF108',
    ({ publication }, names) =>
      publication === null || (publication.viaRoot && publication.isComplete)
        ? undefined
        : warning(
            'the publication omits changes, or publishes partitions under their own names',
            `ALTER PUBLICATION ${quoted(names.publication)} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);`,
          ),
  ],
  [
    'GF109',
    ({ slot }, names) =>
      slot === null || (slot.type === 'logical' && slot.plugin === 'pgoutput' && !slot.isTemporary)
        ? undefined
        : error(
            'the replication slot is not a permanent pgoutput slot',
            `The slot ${names.slot} is ${slot.isTemporary ? 'temporary' : `${slot.type}, plugin ${slot.plugin ?? 'none'}`}. Set REALTIME_REPLICATION_SLOT to another name, or drop the slot: SELECT pg_drop_replication_slot('${names.slot}');`,
          ),
  ],
  [
    'GF110',
    ({ slot, database }, names) =>
      slot === null || slot.database === null || slot.database === database
        ? undefined
        : error(
            'the replication slot belongs to another database',
            `Slot names are shared by all databases of a PostgreSQL server, and ${names.slot} belongs to database ${quoted(slot.database)}. Set another REALTIME_REPLICATION_SLOT for each realtime server.`,
          ),
  ],
  [
    'GF111',
    ({ slot }, names) =>
      slot?.walStatus === 'lost'
        ? warning(
            'the replication slot has lost its WAL',
            `PostgreSQL removed WAL that ${names.slot} needed (max_slot_wal_keep_size). The server recreates the slot and sends its clients a gap. Raise max_slot_wal_keep_size.`,
          )
        : undefined,
  ],
  [
    'GF112',
    ({ slot }, names) =>
      slot?.walStatus === 'unreserved'
        ? warning(
            'the replication slot is about to lose its WAL',
            `${names.slot} is further behind than max_slot_wal_keep_size. Raise it, or find out why the server does not read changes.`,
          )
        : undefined,
  ],
  [
    'GF113',
    ({ slot, slots }) =>
      slot !== null || slots.used < slots.max
        ? undefined
        : error(
            'no free replication slot',
            `All ${slots.max} slots are taken. Drop one that is not needed (SELECT slot_name, active FROM pg_replication_slots), or raise max_replication_slots and restart PostgreSQL.`,
          ),
  ],
  [
    'GF114',
    ({ senders }) =>
      senders.used < senders.max
        ? undefined
        : warning(
            'no free WAL sender',
            `All ${senders.max} WAL senders are in use. Raise max_wal_senders and restart PostgreSQL.`,
          ),
  ],
  [
    'GF115',
    ({ hasSubscriberRole, canCreateRole, user }) =>
      hasSubscriberRole || canCreateRole
        ? undefined
        : error(
            `the role ${SUBSCRIBER_ROLE} is missing`,
            `Run as a role with CREATEROLE: CREATE ROLE ${SUBSCRIBER_ROLE} NOLOGIN; GRANT ${SUBSCRIBER_ROLE} TO ${quoted(user)};`,
          ),
  ],
  [
    'GF116',
    ({ hasSubscriberRole, canSetRole, canCreateRole, user, version }) =>
      !hasSubscriberRole || canSetRole || canCreateRole
        ? undefined
        : error(
            `the role ${SUBSCRIBER_ROLE} is not granted to the server's login`,
            `GRANT ${SUBSCRIBER_ROLE} TO ${quoted(user)}${version >= 160_000 ? ' WITH SET TRUE' : ''};`,
          ),
  ],
  [
    'GF117',
    ({ canCreateTemporary, user, database }) =>
      canCreateTemporary
        ? undefined
        : error(
            'the login is not allowed to create temporary objects',
            `GRANT TEMPORARY ON DATABASE ${quoted(database)} TO ${quoted(user)}; the server evaluates row level security in temporary functions.`,
          ),
  ],
  [
    'GF118',
    ({ unidentified }) =>
      unidentified.length === 0
        ? undefined
        : warning(
            `${unidentified.length} published tables have no replica identity`,
            unidentified.map((table) => `ALTER TABLE ${table} REPLICA IDENTITY FULL;`).join(' '),
          ),
  ],
  [
    'GF120',
    ({ subscriberBypassesRls }) =>
      subscriberBypassesRls
        ? warning(
            `row level security does not apply to ${SUBSCRIBER_ROLE}`,
            `No subscriber is evaluated as such a role, so no row change reaches anybody. ALTER ROLE ${SUBSCRIBER_ROLE} NOSUPERUSER NOBYPASSRLS;`,
          )
        : undefined,
  ],
  [
    'GF121',
    ({ slot }, names) => {
      if (slot === null || slot.retained === null) return undefined;
      const budget = slot.safe === null ? WAL_BUDGET_BYTES : slot.retained + Math.max(0, slot.safe);
      if (slot.retained < budget / 2) return undefined;
      return warning(
        'the replication slot retains more than half of its WAL budget',
        `${names.slot} retains ${Math.round(slot.retained / 1024 ** 2)} MB. Find out why the server does not read changes, or which transaction stays open (SELECT pid, xact_start FROM pg_stat_activity ORDER BY 2); raise max_slot_wal_keep_size, or discard the unread changes: ${programName()} slot reset.`,
      );
    },
  ],
  [
    'GF122',
    ({ handMade }) =>
      handMade.length === 0
        ? undefined
        : warning(
            `${handMade.length} tables have a hand-made trigger`,
            `Changes of ${handMade.join(', ')} arrive by NOTIFY: a change over 8,000 bytes makes the INSERT itself fail, changes are lost while no server listens, and any login can forge them. Run DROP TRIGGER, then POST /realtime/triggers/:table: the new trigger loses nothing.`,
          ),
  ],
  [
    'GF123',
    ({ untriggered }) =>
      untriggered.length === 0
        ? undefined
        : warning(
            `${untriggered.length} tables lack the trigger that records their changes`,
            `It was dropped or disabled, so changes of ${untriggered.join(', ')} reach nobody. Restart the server: it recreates the triggers and sends its clients a gap.`,
          ),
  ],
  [
    'GF124',
    ({ unusableRoles }) =>
      unusableRoles.length === 0
        ? undefined
        : warning(
            `${unusableRoles.length} roles of REALTIME_DB_ROLES cannot be used`,
            `No row change reaches users whose token chooses one of them: ${unusableRoles.join('; ')}.`,
          ),
  ],
  [
    'GF125',
    ({ owned }) =>
      owned.length === 0
        ? undefined
        : warning(
            'row level security does not apply to roles with the privileges of a table owner',
            `Users that are evaluated as such a role get every row: ${owned.join(', ')}. ALTER TABLE … FORCE ROW LEVEL SECURITY; or let another role own the table.`,
          ),
  ],
  [
    'GF126',
    ({ ownedByLogin, user }) =>
      ownedByLogin.length === 0
        ? undefined
        : warning(
            "row level security does not apply to the server's login on tables that it owns",
            `Subscribers are not affected, since they are evaluated as another role; any other program that logs in as ${quoted(user)} sees every row of ${ownedByLogin.join(', ')}. ALTER TABLE … FORCE ROW LEVEL SECURITY; or use a separate login for the server.`,
          ),
  ],
  [
    'GF127',
    ({ reachability }) => {
      // Where no role is usable at all, the findings about the roles say so.
      const warnings = reachability
        .filter(({ roles }) => roles.some(isUsable))
        .flatMap((table) => unreachableWarning(table) ?? []);
      return warnings.length === 0
        ? undefined
        : warning(
            `no subscriber can see a row of ${warnings.length === 1 ? '1 table' : `${warnings.length} tables`}`,
            warnings.join('\n  '),
          );
    },
  ],
  [
    'GF129',
    ({ connections, user }) =>
      connections >= CONNECTIONS_NEEDED
        ? undefined
        : warning(
            `PostgreSQL leaves ${connections} connections, and the server needs up to ${CONNECTIONS_NEEDED}`,
            `Other programs use them too. Raise max_connections and restart PostgreSQL; or, where the role or the database has a limit, ALTER ROLE ${quoted(user)} CONNECTION LIMIT -1; ALTER DATABASE … CONNECTION LIMIT -1;`,
          ),
  ],
];

/**
 * Found only when connecting: something between the server and PostgreSQL does not speak the replication
 * protocol.
 */
export const POOLER_FINDING: Finding = {
  code: 'GF119',
  ...error(
    'a connection pooler is between the server and PostgreSQL',
    'The replication protocol needs a direct connection to PostgreSQL. Point DATABASE_URL at PostgreSQL itself (Supabase: the direct connection, port 5432; Neon: the host without -pooler), not PgBouncer or another pooler.',
  ),
};

/** Found only by evaluating the policies. `errors`: a sentence for each policy that raises one. */
export function policyErrorFinding(errors: readonly string[]): Finding {
  const title = errors.length === 1 ? '1 policy raises an error' : `${errors.length} policies raise an error`;
  return {
    code: 'GF128',
    ...warning(
      title,
      `A row whose policies raise an error is not sent. ${errors.join(' ')} Change the policy (current_setting('…', true) gives NULL where a setting is missing), or the function that it calls.`,
    ),
  };
}

/** Found only by evaluating the policies. `slow`: a sentence for each policy that takes long. */
export function slowPolicyFinding(slow: readonly string[]): Finding {
  return {
    code: 'GF130',
    ...warning(
      slow.length === 1 ? '1 policy is slow' : `${slow.length} policies are slow`,
      `Users whose policies take longer than 50 ms get row changes of the table, and of all others that they follow, later than other users; one that takes longer than a second is not evaluated at all. ${slow.join(' ')} Make the policy, or the function that it calls, faster: an index, or a comparison of a column with the user's claims.`,
    ),
  };
}

/** Findings that apply to the trigger source alone. */
const TRIGGER_ONLY_CODES: ReadonlySet<string> = new Set(['GF122', 'GF123']);
/** All findings that apply to the trigger source. */
const TRIGGER_CODES: ReadonlySet<string> = new Set([
  'GF102',
  'GF103',
  'GF115',
  'GF116',
  'GF117',
  'GF120',
  'GF124',
  'GF125',
  'GF126',
  'GF127',
  'GF129',
  ...TRIGGER_ONLY_CODES,
]);
/** Findings that make logical decoding impossible and that the operator may not be able to fix. */
const IMPOSSIBLE_CODES: ReadonlySet<string> = new Set(['GF101', 'GF104', 'GF105']);

/** Returns the findings for the trigger source. */
export function triggerFindingsOf(facts: PreflightFacts, names: PreflightNames): Finding[] {
  return allFindings(facts, names).filter(({ code }) => TRIGGER_CODES.has(code));
}

/** Says in a few words why logical decoding is unavailable; undefined if it is available. */
export function logicalDecodingObstacle(facts: PreflightFacts, names: PreflightNames): string | undefined {
  const reasons = allFindings(facts, names).filter(({ code }) => IMPOSSIBLE_CODES.has(code));
  return reasons.length === 0 ? undefined : reasons.map(({ title }) => title).join('; ');
}

/** Returns the findings for logical decoding. */
export function findingsOf(facts: PreflightFacts, names: PreflightNames): Finding[] {
  return allFindings(facts, names).filter(({ code }) => !TRIGGER_ONLY_CODES.has(code));
}

function allFindings(facts: PreflightFacts, names: PreflightNames): Finding[] {
  return CHECKS.flatMap(([code, check]) => {
    const found = check(facts, names);
    return found === undefined ? [] : [{ code, ...found }];
  });
}

function error(title: string, advice: string): Omit<Finding, 'code'> {
  return { severity: 'error', title, advice };
}

function warning(title: string, advice: string): Omit<Finding, 'code'> {
  return { severity: 'warning', title, advice };
}
