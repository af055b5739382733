import type { TableFacts } from '../model/table-facts.js';
import { DEFAULT_DB_ROLE } from '../model/viewer.js';
import type { Authorizer } from '../visibility/authorizer.js';
import { lookupKeys } from '../visibility/compiling/lookup-keys.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';

/**
 * How the policies of a table are evaluated for a role. OPEN: row level security does not apply; CLOSED: no
 * row reaches the role; INDEXED: the viewers of a row are looked up; COMPILED: each viewer is evaluated in
 * process; POSTGRES: PostgreSQL evaluates.
 */
export type Tier = (typeof TIERS)[number];

export const TIERS = ['OPEN', 'CLOSED', 'INDEXED', 'COMPILED', 'POSTGRES'] as const;

export interface RoleTier {
  readonly role: string;
  readonly tier: Tier;
  /** Why, as the end of a sentence. */
  readonly reason: string;
}

/** Returns the tier of each subscriber role; empty if the table has been dropped. */
export async function tiersOf(
  authorizer: Pick<Authorizer, 'facts' | 'privileges'>,
  oid: number,
  dbRoles: readonly string[],
): Promise<RoleTier[]> {
  const facts = await authorizer.facts(oid);
  if (facts === undefined) return [];
  const tiers: RoleTier[] = [];
  for (const role of new Set([DEFAULT_DB_ROLE, ...dbRoles]))
    tiers.push({ role, ...tierOf(facts, await authorizer.privileges(facts, role)) });
  return tiers;
}

export function tierOf(facts: TableFacts, privileges: RolePrivileges): Omit<RoleTier, 'role'> {
  const { policyCompilation } = privileges;
  if (!privileges.canSelect)
    return { tier: 'CLOSED', reason: 'reason' in policyCompilation ? policyCompilation.reason : '' };
  if (privileges.rows === 'none') return { tier: 'CLOSED', reason: 'no policy lets a row pass' };
  if (privileges.rows === 'all') return { tier: 'OPEN', reason: 'row level security does not apply' };
  if ('reason' in policyCompilation) return { tier: 'POSTGRES', reason: policyCompilation.reason };
  const keys = lookupKeys(policyCompilation.compiled.predicate);
  if (keys === undefined) return { tier: 'COMPILED', reason: 'no column must equal a value of the user' };
  const columns = keys.flatMap((key) =>
    key.kind === 'equal' ? [facts.columns[key.column.columnIndex]?.name] : [],
  );
  const reason =
    columns.length === 0
      ? 'the policies do not compare the row with the user'
      : `rows are looked up by ${[...new Set(columns)].join(', ')}`;
  return { tier: 'INDEXED', reason };
}
