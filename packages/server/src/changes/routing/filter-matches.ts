import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import type { ConditionMatches } from './condition-matches.js';
import type { SubscriptionEntry, SubscriptionIndex } from './subscription-index.js';
import { type DecodedChange, eventOf, NO_ROW } from './table-batch.js';

/** A change that some subscription of a recipient group matches. Row visibility is not considered yet. */
export interface ChangeMatch {
  readonly change: DecodedChange;
  /** The subscriptions whose condition is true of the old version, and of the new one, or open there. */
  readonly oldSubscriptions: readonly Subscription[];
  readonly newSubscriptions: readonly Subscription[];
  /**
   * It is unknown what the old version matched: the WAL does not have it, or lacks columns that a condition
   * reads.
   */
  readonly isOldUnknown: boolean;
}

const NONE: readonly Subscription[] = [];

/**
 * Whether the subscription selects the event of the change, and the snapshot that it began with did not see
 * the change.
 */
export function isSubscribedTo({ filter, snapshot }: Subscription, change: DecodedChange): boolean {
  const event = eventOf(change);
  if (event === undefined || !filter.events.includes(event)) return false;
  return snapshot?.sees(change.streamed.transaction.xid) !== true;
}

/**
 * Matches the changes of a table batch against the subscriptions of channels and connections, for one
 * database role. A condition on a column that the role is not allowed to read matches nothing: it would be an
 * oracle.
 */
export class FilterMatches {
  readonly #subscriptions: SubscriptionIndex;
  readonly #conditions: ConditionMatches;
  /** The names of the columns that the role is allowed to read. */
  readonly #readableColumns: ReadonlySet<string>;
  readonly #sets = new SubscriptionSets();
  readonly #matching = new Map<
    DecodedChange,
    ReadonlyMap<SubscriptionTarget, readonly SubscriptionEntry[]>
  >();
  readonly #matchByChannel = new Map<DecodedChange, Map<string, ChangeMatch | undefined>>();

  constructor(subscriptions: SubscriptionIndex, conditions: ConditionMatches, columns: ReadonlySet<string>) {
    this.#subscriptions = subscriptions;
    this.#conditions = conditions;
    this.#readableColumns = columns;
  }

  /** Whether any subscription matches the change. */
  hasMatch(change: DecodedChange): boolean {
    if (change.streamed.kind === 'truncate') return !this.#subscriptions.isEmpty;
    return this.#subscriptions.hasUnconditional || this.#matchingOf(change).size > 0;
  }

  /**
   * The targets with a matching condition. Targets without one are `subscriptions.targetsWithUnconditional`.
   */
  conditionalTargets(change: DecodedChange): Iterable<SubscriptionTarget> {
    return this.#matchingOf(change).keys();
  }

  /** The subscriptions with a matching condition. */
  matching(change: DecodedChange): readonly SubscriptionEntry[] {
    return [...this.#matchingOf(change).values()]
      .flat()
      .filter((entry) => isSubscribedTo(entry.subscription, change));
  }

  /** Matches a change against the subscriptions of a recipient group; undefined: none matches. */
  of(change: DecodedChange, { channel, owner }: RecipientGroup): ChangeMatch | undefined {
    if (owner !== undefined) return this.#match(change, [channel.name, owner]);
    let matches = this.#matchByChannel.get(change);
    if (matches === undefined) {
      matches = new Map();
      this.#matchByChannel.set(change, matches);
    }
    if (matches.has(channel.name)) return matches.get(channel.name);
    const match = this.#match(change, [channel.name]);
    matches.set(channel.name, match);
    return match;
  }

  #match(change: DecodedChange, targets: readonly SubscriptionTarget[]): ChangeMatch | undefined {
    const subscriptions = this.#subscriptions;
    if (change.streamed.kind === 'truncate') {
      const all = this.#sets.of(targets.flatMap((target) => [...subscriptions.of(target)]));
      return all.length === 0
        ? undefined
        : { change, oldSubscriptions: all, newSubscriptions: NONE, isOldUnknown: false };
    }
    const matching = this.#matchingOf(change);
    const entries: SubscriptionEntry[] = [];
    for (const target of targets) {
      for (const entry of [...subscriptions.unconditionalOf(target), ...(matching.get(target) ?? [])])
        if (isSubscribedTo(entry.subscription, change)) entries.push(entry);
    }
    if (entries.length === 0) return undefined;
    entries.sort((a, b) => a.order - b.order);
    const oldSubscriptions = this.#subscriptionsMatching(entries, change.oldRow);
    const newSubscriptions = this.#subscriptionsMatching(entries, change.newRow);
    if (oldSubscriptions.length + newSubscriptions.length === 0) return undefined;
    return {
      change,
      oldSubscriptions,
      newSubscriptions,
      isOldUnknown: this.#isVersionUnknown(entries, change.oldRow),
    };
  }

  #subscriptionsMatching(entries: readonly SubscriptionEntry[], row: number): readonly Subscription[] {
    if (row === NO_ROW) return NONE;
    return this.#sets.of(entries.filter((entry) => this.#isConditionTrue(entry, row)));
  }

  #isConditionTrue(entry: SubscriptionEntry, row: number): boolean {
    const { condition } = entry.subscription;
    return condition === null || (this.#canRead(condition.columns) && this.#conditions.of(row).has(entry));
  }

  #isVersionUnknown(entries: readonly SubscriptionEntry[], row: number): boolean {
    if (row === NO_ROW) return true;
    return entries.some(
      ({ subscription: { condition } }) =>
        condition !== null && !this.#conditions.hasColumns(row, condition.columns),
    );
  }

  #canRead(columns: readonly string[]): boolean {
    return columns.every((name) => this.#readableColumns.has(name));
  }

  /** Returns by target the entries with a condition that is true of a version of the row. */
  #matchingOf(change: DecodedChange): ReadonlyMap<SubscriptionTarget, readonly SubscriptionEntry[]> {
    let found = this.#matching.get(change);
    if (found !== undefined) return found;
    const entries = new Set<SubscriptionEntry>();
    for (const row of [change.oldRow, change.newRow])
      if (row !== NO_ROW)
        for (const entry of this.#conditions.of(row))
          if (this.#isConditionTrue(entry, row)) entries.add(entry);
    const byTarget = new Map<SubscriptionTarget, SubscriptionEntry[]>();
    for (const entry of entries) {
      const others = byTarget.get(entry.target);
      if (others === undefined) byTarget.set(entry.target, [entry]);
      else others.push(entry);
    }
    found = byTarget;
    this.#matching.set(change, found);
    return found;
  }
}

/** The filter matches of a table batch, by what a role is allowed to read. */
export class RoleMatches {
  /** For roles that are allowed to read all columns. */
  readonly ofAllColumns: FilterMatches;
  readonly #facts: TableFacts;
  readonly #subscriptions: SubscriptionIndex;
  readonly #conditions: ConditionMatches;
  readonly #ofPrivileges = new Map<RolePrivileges, FilterMatches>();

  constructor(facts: TableFacts, subscriptions: SubscriptionIndex, conditions: ConditionMatches) {
    this.#facts = facts;
    this.#subscriptions = subscriptions;
    this.#conditions = conditions;
    this.ofAllColumns = new FilterMatches(
      subscriptions,
      conditions,
      new Set(facts.columns.map(({ name }) => name)),
    );
  }

  of({ privileges }: { readonly privileges: RolePrivileges }): FilterMatches {
    const { columns } = privileges;
    if (this.#facts.columns.every(({ name }) => columns.has(name))) return this.ofAllColumns;
    const known = this.#ofPrivileges.get(privileges);
    if (known !== undefined) return known;
    const matches = new FilterMatches(this.#subscriptions, this.#conditions, columns);
    this.#ofPrivileges.set(privileges, matches);
    return matches;
  }
}

/** Returns one array for equal sets of subscriptions, so that a message is encoded once for each set. */
class SubscriptionSets {
  readonly #known = new Map<string, readonly Subscription[]>();

  of(entries: readonly SubscriptionEntry[]): readonly Subscription[] {
    const key = entries.map(({ subscription: { id } }) => id).join();
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const subscriptions = entries.map(({ subscription }) => subscription);
    this.#known.set(key, subscriptions);
    return subscriptions;
  }
}
