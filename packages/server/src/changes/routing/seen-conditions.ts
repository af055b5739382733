import { createHash } from 'node:crypto';
import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import type { SeenCondition } from './condition-matches.js';
import { isSubscribedTo } from './filter-matches.js';
import type { RoleRecipients } from './role-recipients.js';
import type { RowVisibility } from './row-visibility.js';
import type { ConditionGroup, SubscriptionEntry } from './subscription-index.js';
import { type DecodedChange, NO_ROW, type TableBatch } from './table-batch.js';

/** The recipients of one role, and which rows of a table batch they see. */
export interface RoleView {
  readonly recipients: RoleRecipients;
  readonly privileges: RolePrivileges;
  /** Which viewers the policies show a row to. */
  readonly visibility: 'none' | 'all' | RowVisibility;
}

/** By how many audiences a condition is evaluated that is too slow for all of them together. */
const MAX_AUDIENCES = 8;
/** The audience of a condition that is not evaluated by audiences. */
const TOGETHER = '';

/** Whether the role may read these columns of the table. */
export function canRead({ canSelect, columns }: RolePrivileges, names: readonly string[]): boolean {
  return canSelect && names.every((name) => columns.has(name));
}

/**
 * Finds out who sees the rows of a table batch among those who have a condition, so that a condition is evaluated on no
 * other row, and its errors are reported to nobody else.
 */
export class SeenConditions {
  readonly #roles: readonly RoleView[];
  readonly #changeOf = new Map<number, DecodedChange>();
  /** By row: the targets with a recipient that sees it, in each role with policies. */
  readonly #targets = new Map<RowVisibility, Map<number, ReadonlySet<SubscriptionTarget>>>();

  constructor(tableBatch: TableBatch, roles: readonly RoleView[]) {
    this.#roles = roles;
    for (const change of tableBatch.changes)
      for (const row of [change.oldRow, change.newRow]) if (row !== NO_ROW) this.#changeOf.set(row, change);
  }

  /** Returns the open conditions with those of their rows that a recipient with the condition sees. */
  of(open: ReadonlyMap<ConditionGroup, ReadonlySet<number>>): SeenCondition[] {
    const seen: SeenCondition[] = [];
    for (const [group, rows] of open) {
      const readers = this.#readersOf(group);
      const seenRows = new Set<number>();
      const seenBy = new Set<SubscriptionEntry>();
      for (const row of rows)
        for (const entry of this.#subscribed(group, row)) {
          if (!readers.some((role) => this.#reaches(role, entry.target, row))) continue;
          seenRows.add(row);
          seenBy.add(entry);
        }
      if (seenRows.size > 0) seen.push({ group, rows: [...seenRows], payers: byPayer(seenBy) });
    }
    return seen;
  }

  /**
   * Splits a condition by who sees its rows, since one that is too slow on a row fails on others too: those who do not see
   * the row must not learn that. Rows over the limit of audiences stay together.
   */
  byAudience({ group, rows, payers }: SeenCondition): SeenCondition[] {
    const audiences = new Map<
      string,
      { readonly rows: number[]; readonly entries: Set<SubscriptionEntry> }
    >();
    for (const row of rows) {
      const seers = [...this.recipientsOf(group, row)];
      const names = seers.map(([{ viewer }, { subscription }]) => `${subscription.id} ${viewer.key}`);
      const key = JSON.stringify([...new Set(names)].sort());
      const name = audiences.has(key) || audiences.size < MAX_AUDIENCES ? key : TOGETHER;
      const audience = audiences.get(name) ?? { rows: [], entries: new Set() };
      audiences.set(name, audience);
      audience.rows.push(row);
      for (const [, entry] of seers) audience.entries.add(entry);
    }
    if (audiences.size === 1) return [{ group, rows, payers, audience: TOGETHER }];
    return [...audiences].map(([key, { rows: own, entries }]) => ({
      group,
      rows: own,
      payers: byPayer(entries),
      audience: key === TOGETHER ? key : createHash('sha256').update(key).digest('base64url'),
    }));
  }

  /** Yields the recipient groups that have the condition and see the row, each with its subscription. */
  *recipientsOf(group: ConditionGroup, row: number): Iterable<[RecipientGroup, SubscriptionEntry]> {
    for (const role of this.#readersOf(group))
      for (const entry of this.#subscribed(group, row))
        for (const recipientGroup of role.recipients.groupsOf(entry.target))
          if (sees(role, recipientGroup, row)) yield [recipientGroup, entry];
  }

  /** The change that a row is a version of. */
  changeOf(row: number): DecodedChange | undefined {
    return this.#changeOf.get(row);
  }

  #readersOf({ condition }: ConditionGroup): RoleView[] {
    return this.#roles.filter(
      ({ privileges, visibility }) => visibility !== 'none' && canRead(privileges, condition.columns),
    );
  }

  /** The entries with the condition that are for the change of the row. */
  *#subscribed({ entries }: ConditionGroup, row: number): Iterable<SubscriptionEntry> {
    const change = this.#changeOf.get(row);
    if (change === undefined) return;
    for (const entry of entries) if (isSubscribedTo(entry.subscription, change)) yield entry;
  }

  /** Whether a recipient of the target sees the row. */
  #reaches({ recipients, visibility }: RoleView, target: SubscriptionTarget, row: number): boolean {
    if (visibility === 'none') return false;
    if (visibility === 'all') return recipients.hasAny(target);
    return this.#targetsOf(visibility, row).has(target);
  }

  #targetsOf(visibility: RowVisibility, row: number): ReadonlySet<SubscriptionTarget> {
    let byRow = this.#targets.get(visibility);
    if (byRow === undefined) {
      byRow = new Map();
      this.#targets.set(visibility, byRow);
    }
    let targets = byRow.get(row);
    if (targets === undefined) {
      targets = targetsOf(visibility, row);
      byRow.set(row, targets);
    }
    return targets;
  }
}

/** Groups entries by who is charged for their conditions: a user, or a channel's subscription itself. */
function byPayer(entries: Iterable<SubscriptionEntry>): ReadonlyMap<string, SubscriptionEntry[]> {
  const found = new Map<string, SubscriptionEntry[]>();
  for (const entry of entries) {
    const { target, subscription } = entry;
    const payer =
      typeof target === 'string' ? `subscription ${subscription.id}` : `user ${target.identity.limitedAs}`;
    const others = found.get(payer);
    if (others === undefined) found.set(payer, [entry]);
    else others.push(entry);
  }
  return found;
}

function targetsOf(visibility: RowVisibility, row: number): ReadonlySet<SubscriptionTarget> {
  const targets = new Set<SubscriptionTarget>();
  for (const { groups } of visibility.seersOf(row))
    for (const { channel, owner } of groups) {
      targets.add(channel.name);
      if (owner !== undefined) targets.add(owner);
    }
  return targets;
}

function sees({ recipients, visibility }: RoleView, { viewer }: RecipientGroup, row: number): boolean {
  if (visibility === 'none') return false;
  if (visibility === 'all') return true;
  const tableViewer = recipients.viewers.get(viewer.key);
  return tableViewer !== undefined && visibility.isVisible(tableViewer, row) === true;
}
