import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  findingsOf,
  logicalDecodingObstacle,
  POOLER_FINDING,
  policyErrorFinding,
  triggerFindingsOf,
} from './preflight.js';
import type { PreflightFacts } from './preflight-facts.js';

const NAMES = {
  slot: 'realtime_slot',
  publication: 'realtime_publication',
  schema: 'realtime',
  dbRoles: [],
  enableRls: true,
};
const SLOT = {
  plugin: 'pgoutput',
  type: 'logical',
  database: 'app',
  walStatus: 'reserved',
  isTemporary: false,
  retained: 1_000_000,
  safe: null,
};
const PUBLICATION = { isOurs: true, owner: 'app', viaRoot: true, isComplete: true };
/** A database in which everything exists and nothing is wrong. */
const READY: PreflightFacts = {
  version: 180_000,
  walLevel: 'logical',
  isStandby: false,
  user: 'app',
  database: 'app',
  canReplicate: true,
  canSetRole: true,
  canCreateRole: false,
  hasSubscriberRole: true,
  canCreate: true,
  canCreateTemporary: true,
  subscriberBypassesRls: false,
  connections: 97,
  slots: { used: 1, max: 10 },
  senders: { used: 1, max: 10 },
  slot: SLOT,
  publication: PUBLICATION,
  unpublished: [],
  reachability: [],
  unidentified: [],
  handMade: [],
  untriggered: [],
  unusableRoles: [],
  owned: [],
  ownedByLogin: [],
};

describe('preflight findings', () => {
  it('are none where everything exists, and where the login can create it', () => {
    expect(findingsOf(READY, NAMES)).toEqual([]);
    const fresh = { ...READY, slot: null, publication: null, hasSubscriberRole: false, canSetRole: false };
    expect(findingsOf({ ...fresh, canCreateRole: true }, NAMES)).toEqual([]);
  });

  it.each<[code: string, severity: string, facts: Partial<PreflightFacts>, fix: string]>([
    ['GF101', 'error', { walLevel: 'replica' }, "SET wal_level = 'logical'"],
    ['GF102', 'error', { version: 130_022 }, 'PostgreSQL 14'],
    ['GF103', 'error', { isStandby: true }, 'the primary'],
    ['GF104', 'error', { canReplicate: false, user: 'we"ird' }, 'ALTER ROLE "we""ird" REPLICATION'],
    ['GF105', 'error', { publication: null, canCreate: false }, 'GRANT CREATE ON DATABASE "app" TO "app"'],
    ['GF106', 'error', { publication: { ...PUBLICATION, isOurs: false } }, 'OWNER TO "app"'],
    ['GF107', 'warning', { unpublished: ['public.notes'] }, 'ADD TABLE public.notes'],
    [
      'GF108',
      'warning',
      { publication: { ...PUBLICATION, viaRoot: false } },
      'publish_via_partition_root = true',
    ],
    ['GF108', 'warning', { publication: { ...PUBLICATION, isComplete: false } }, 'truncate'],
    ['GF109', 'error', { slot: { ...SLOT, plugin: 'wal2json' } }, 'REALTIME_REPLICATION_SLOT'],
    ['GF109', 'error', { slot: { ...SLOT, type: 'physical', plugin: null, database: null } }, 'plugin none'],
    ['GF109', 'error', { slot: { ...SLOT, isTemporary: true } }, 'temporary'],
    ['GF110', 'error', { slot: { ...SLOT, database: 'other' } }, 'database "other"'],
    ['GF111', 'warning', { slot: { ...SLOT, walStatus: 'lost' } }, 'max_slot_wal_keep_size'],
    ['GF112', 'warning', { slot: { ...SLOT, walStatus: 'unreserved' } }, 'max_slot_wal_keep_size'],
    ['GF113', 'error', { slot: null, slots: { used: 10, max: 10 } }, 'max_replication_slots'],
    ['GF114', 'warning', { senders: { used: 10, max: 10 } }, 'max_wal_senders'],
    ['GF115', 'error', { hasSubscriberRole: false, canSetRole: false }, 'CREATE ROLE realtime_subscriber'],
    ['GF116', 'error', { canSetRole: false }, 'GRANT realtime_subscriber TO "app" WITH SET TRUE'],
    ['GF116', 'error', { canSetRole: false, version: 140_000 }, 'GRANT realtime_subscriber TO "app";'],
    ['GF117', 'error', { canCreateTemporary: false }, 'GRANT TEMPORARY ON DATABASE "app" TO "app"'],
    [
      'GF118',
      'warning',
      { unidentified: ['public.notes'] },
      'ALTER TABLE public.notes REPLICA IDENTITY FULL',
    ],
    ['GF120', 'warning', { subscriberBypassesRls: true }, 'NOSUPERUSER NOBYPASSRLS'],
    ['GF121', 'warning', { slot: { ...SLOT, retained: 3 * 1024 ** 3 } }, 'slot reset'],
    ['GF129', 'warning', { connections: 11, user: 'we"ird' }, 'ALTER ROLE "we""ird" CONNECTION LIMIT'],
    ['GF124', 'warning', { unusableRoles: ['ghost does not exist'] }, 'ghost does not exist'],
    ['GF125', 'warning', { owned: ['app on public.notes'] }, 'app on public.notes. ALTER TABLE … FORCE'],
    [
      'GF126',
      'warning',
      { ownedByLogin: ['public.notes'] },
      'logs in as "app" sees every row of public.notes',
    ],
    [
      'GF121',
      'warning',
      { slot: { ...SLOT, retained: 60_000_000, safe: 50_000_000 } },
      'max_slot_wal_keep_size',
    ],
  ])('%s is reported as %s, with its fix', (code, severity, facts, fix) => {
    const found = findingsOf({ ...READY, ...facts }, NAMES);
    expect(found).toEqual([
      { code, severity, title: expect.any(String), advice: expect.stringContaining(fix) },
    ]);
  });

  it('GF127 lists the tables that no usable role sees, for both change sources', () => {
    const role = {
      name: 'realtime_subscriber',
      rawName: 'realtime_subscriber',
      exists: true,
      bypassesPolicies: false,
      isGranted: true,
      canUseSchema: true,
      canSelect: false,
      passesPolicies: true,
    };
    const table = {
      oid: 1,
      table: 'public.notes',
      schema: 'public',
      login: 'app',
      serverVersion: 180_000,
      policies: [],
    };
    const hidden = { ...READY, reachability: [{ ...table, roles: [role] }] };
    const found = [
      {
        code: 'GF127',
        severity: 'warning',
        title: 'no subscriber can see a row of 1 table',
        advice: expect.stringMatching(/GRANT SELECT ON TABLE public\.notes TO realtime_subscriber;$/),
      },
    ];
    expect(findingsOf(hidden, NAMES)).toEqual(found);
    expect(triggerFindingsOf(hidden, NAMES)).toEqual(found);
    const seen = { ...role, name: 'authenticated', rawName: 'authenticated', canSelect: true };
    expect(findingsOf({ ...READY, reachability: [{ ...table, roles: [role, seen] }] }, NAMES)).toEqual([]);
    // The role has a finding of its own.
    const bypassing = { ...role, bypassesPolicies: true };
    expect(findingsOf({ ...READY, reachability: [{ ...table, roles: [bypassing] }] }, NAMES)).toEqual([]);
  });

  it('are all reported at once', () => {
    const facts = { ...READY, walLevel: 'replica', canReplicate: false, canCreateTemporary: false };
    expect(findingsOf(facts, NAMES).map(({ code }) => code)).toEqual(['GF101', 'GF104', 'GF117']);
  });

  it('are fewer for the trigger source, and report hand-made triggers', () => {
    const facts = {
      ...READY,
      walLevel: 'replica',
      canReplicate: false,
      handMade: ['public.notes'],
      untriggered: ['public.rooms'],
      publication: null,
    };
    expect(findingsOf(facts, NAMES).map(({ code }) => code)).toEqual(['GF101', 'GF104']);
    expect(triggerFindingsOf(facts, NAMES)).toEqual([
      {
        code: 'GF122',
        severity: 'warning',
        title: expect.any(String),
        advice: expect.stringContaining('8,000 bytes'),
      },
      {
        code: 'GF123',
        severity: 'warning',
        title: '1 tables lack the trigger that records their changes',
        advice: expect.stringContaining('public.rooms'),
      },
    ]);
    expect(triggerFindingsOf({ ...READY, canCreateTemporary: false }, NAMES).map(({ code }) => code)).toEqual(
      ['GF117'],
    );
  });

  it('name the obstacle where logical decoding is unavailable', () => {
    expect(logicalDecodingObstacle(READY, NAMES)).toBeUndefined();
    expect(
      logicalDecodingObstacle({ ...READY, slot: null, slots: { used: 9, max: 9 } }, NAMES),
    ).toBeUndefined();
    expect(logicalDecodingObstacle({ ...READY, walLevel: 'replica', canReplicate: false }, NAMES)).toBe(
      'wal_level is replica, not logical; the login is not allowed to replicate',
    );
  });

  it('each have a row in the guide', () => {
    const guide = readFileSync(new URL('../../../../../docs/guides/postgres.md', import.meta.url), 'utf8');
    const numbers = Array.from({ length: 28 }, (_, n) => `GF${101 + n}`);
    expect(numbers).toContain(POOLER_FINDING.code);
    expect(numbers.at(-1)).toBe(policyErrorFinding([]).code);
    for (const number of numbers) expect(guide).toContain(`| ${number} |`);
  });
});
