import type { Finding } from '../source/change-source.js';
import { quoted } from '../sql/identifier.js';
import type { PreflightFacts, PreflightNames } from './preflight-facts.js';
import { unreachableWarning } from './reachability-advice.js';
import { SUBSCRIBER_ROLE } from './subscriber-role.js';
import { isUsable } from './table-reachability.js';

/** How much a slot may keep where PostgreSQL sets no limit, in bytes. */
export const WAL_BUDGET_BYTES = 4 * 1024 ** 3;

type Check = (facts: PreflightFacts, names: PreflightNames) => Omit<Finding, 'code'> | undefined;

/** Every finding has its number for ever: documents and people refer to it. */
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
      isStandby ? error('PostgreSQL is a standby', 'Let DATABASE_URL name the primary server.') : undefined,
  ],
  [
    'GF104',
    ({ mayReplicate, user }) =>
      mayReplicate
        ? undefined
        : error(
            'no right to replicate',
            `ALTER ROLE ${quoted(user)} REPLICATION; as a superuser. RDS: GRANT rds_replication TO ${quoted(user)}. Cloud SQL and Azure: ALTER USER ${quoted(user)} WITH REPLICATION.`,
          ),
  ],
  [
    'GF105',
    ({ publication, mayCreate, user, database }) =>
      publication !== null || mayCreate
        ? undefined
        : error(
            'no right to make the publication',
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
            `ALTER PUBLICATION ${quoted(names.publication)} OWNER TO ${quoted(user)}; or name another with REALTIME_PUBLICATION_NAME.`,
          ),
  ],
  [
    'GF107',
    ({ unpublished }, names) =>
      unpublished.length === 0
        ? undefined
        : warning(
            `${unpublished.length} tables that are opted in are not in the publication`,
            `ALTER PUBLICATION ${quoted(names.publication)} ADD TABLE ${unpublished.join(', ')};`,
          ),
  ],
  [
    'GF108',
    ({ publication }, names) =>
      publication === null || (publication.viaRoot && publication.isComplete)
        ? undefined
        : warning(
            'the publication leaves changes out or names partitions',
            `ALTER PUBLICATION ${quoted(names.publication)} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);`,
          ),
  ],
  [
    'GF109',
    ({ slot }, names) =>
      slot === null || (slot.type === 'logical' && slot.plugin === 'pgoutput' && !slot.isTemporary)
        ? undefined
        : error(
            `the replication slot is of another kind`,
            `The slot ${names.slot} is ${slot.isTemporary ? 'temporary' : `${slot.type}, plugin ${slot.plugin ?? 'none'}`}. Name another with REALTIME_REPLICATION_SLOT, or drop it: SELECT pg_drop_replication_slot('${names.slot}');`,
          ),
  ],
  [
    'GF110',
    ({ slot, database }, names) =>
      slot === null || slot.database === null || slot.database === database
        ? undefined
        : error(
            'the replication slot belongs to another database',
            `Slots belong to the whole PostgreSQL server, and ${names.slot} is of database ${quoted(slot.database)}. Give each server a slot of its own with REALTIME_REPLICATION_SLOT.`,
          ),
  ],
  [
    'GF111',
    ({ slot }, names) =>
      slot?.walStatus === 'lost'
        ? warning(
            'the replication slot has lost its WAL',
            `PostgreSQL removed WAL that ${names.slot} needed (max_slot_wal_keep_size). The server makes the slot anew and tells its clients of the gap.`,
          )
        : undefined,
  ],
  [
    'GF112',
    ({ slot }, names) =>
      slot?.walStatus === 'unreserved'
        ? warning(
            'the replication slot is about to lose its WAL',
            `${names.slot} is further behind than max_slot_wal_keep_size. Raise it, or find out why changes are not read.`,
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
            `All ${slots.max} slots are taken. Drop one that nobody needs (SELECT slot_name, active FROM pg_replication_slots), or raise max_replication_slots and restart PostgreSQL.`,
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
    ({ hasSubscriberRole, mayCreateRole, user }) =>
      hasSubscriberRole || mayCreateRole
        ? undefined
        : error(
            `the role ${SUBSCRIBER_ROLE} is missing`,
            `CREATE ROLE ${SUBSCRIBER_ROLE} NOLOGIN; GRANT ${SUBSCRIBER_ROLE} TO ${quoted(user)}; as a role that may create roles.`,
          ),
  ],
  [
    'GF116',
    ({ hasSubscriberRole, maySetRole, mayCreateRole, user, version }) =>
      !hasSubscriberRole || maySetRole || mayCreateRole
        ? undefined
        : error(
            `the role ${SUBSCRIBER_ROLE} is not granted to the server's login`,
            `GRANT ${SUBSCRIBER_ROLE} TO ${quoted(user)}${version >= 160_000 ? ' WITH SET TRUE' : ''};`,
          ),
  ],
  [
    'GF117',
    ({ mayMakeTemporary, user, database }) =>
      mayMakeTemporary
        ? undefined
        : error(
            'no right to make temporary objects',
            `GRANT TEMPORARY ON DATABASE ${quoted(database)} TO ${quoted(user)}; row level security is judged by temporary functions.`,
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
            `Nobody is judged as such a role: no row change reaches anybody. ALTER ROLE ${SUBSCRIBER_ROLE} NOSUPERUSER NOBYPASSRLS;`,
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
        'the replication slot keeps more than half of the log that it may',
        `${names.slot} keeps ${Math.round(slot.retained / 1024 ** 2)} MB. Find out why changes are not read, or what transaction stays open (SELECT pid, xact_start FROM pg_stat_activity ORDER BY 2); raise max_slot_wal_keep_size, or give what was not read up: goforward-realtime slot reset.`,
      );
    },
  ],
  [
    'GF122',
    ({ byHand }) =>
      byHand.length === 0
        ? undefined
        : warning(
            `${byHand.length} tables carry a trigger that was made by hand`,
            `Changes of ${byHand.join(', ')} come by NOTIFY: at most 8,000 bytes each, beyond which the INSERT itself fails, lost while no server listens, and any login can forge them. DROP TRIGGER on them, and POST /realtime/triggers/:table makes one that loses nothing.`,
          ),
  ],
  [
    'GF123',
    ({ untriggered }) =>
      untriggered.length === 0
        ? undefined
        : warning(
            `${untriggered.length} tables lack a trigger that tells of their changes`,
            `Somebody dropped or disabled it: changes of ${untriggered.join(', ')} reach nobody. Start the server again: it makes them anew, and tells its clients of the gap.`,
          ),
  ],
  [
    'GF124',
    ({ unusableRoles }) =>
      unusableRoles.length === 0
        ? undefined
        : warning(
            `${unusableRoles.length} roles of REALTIME_DB_ROLES cannot be used`,
            `No row change reaches a user whose token chooses one of them: ${unusableRoles.join('; ')}.`,
          ),
  ],
  [
    'GF125',
    ({ owned }) =>
      owned.length === 0
        ? undefined
        : warning(
            'row level security does not apply to roles that may do what the owner of a table may',
            `Users that are judged as such a role get every row: ${owned.join(', ')}. ALTER TABLE … FORCE ROW LEVEL SECURITY; or let another role own the table.`,
          ),
  ],
  [
    'GF126',
    ({ ownedByLogin, user }) =>
      ownedByLogin.length === 0
        ? undefined
        : warning(
            "row level security does not apply to the server's login on tables that it owns",
            `Subscribers are judged as another role, and are not concerned; whatever else logs in as ${quoted(user)} sees every row of ${ownedByLogin.join(', ')}. ALTER TABLE … FORCE ROW LEVEL SECURITY; or give the server a login of its own.`,
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
];

/** The number of what only an attempt can show: something between us and PostgreSQL does not speak the replication protocol. */
export const POOLER_FINDING: Finding = {
  code: 'GF119',
  ...error(
    'a connection pooler is in between',
    'The replication protocol needs a direct connection to PostgreSQL. Let DATABASE_URL name PostgreSQL itself (Supabase: the direct connection, port 5432; Neon: the host without -pooler), not PgBouncer or another pooler.',
  ),
};

/** The number of what only evaluating the policies can show. `errors`: a sentence for each policy. */
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

/** What matters only where changes are read by triggers. */
const TRIGGER_ONLY_CODES: ReadonlySet<string> = new Set(['GF122', 'GF123']);
/** What matters where changes are read by triggers as well. */
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
  ...TRIGGER_ONLY_CODES,
]);
/** What makes logical decoding impossible, and may not be for the operator to mend. */
const IMPOSSIBLE_CODES: ReadonlySet<string> = new Set(['GF101', 'GF104', 'GF105']);

/** What stands in the way of reading row changes by triggers, and what will. */
export function triggerFindingsOf(facts: PreflightFacts, names: PreflightNames): Finding[] {
  return allFindings(facts, names).filter(({ code }) => TRIGGER_CODES.has(code));
}

/** Why logical decoding cannot be had, in a few words; undefined where it can. */
export function logicalDecodingObstacle(facts: PreflightFacts, names: PreflightNames): string | undefined {
  const reasons = allFindings(facts, names).filter(({ code }) => IMPOSSIBLE_CODES.has(code));
  return reasons.length === 0 ? undefined : reasons.map(({ title }) => title).join('; ');
}

/** What stands in the way of reading row changes by logical decoding, and what will. */
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
