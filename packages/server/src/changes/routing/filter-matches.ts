import type { FilterEvent } from '../model/change-filter.js';
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
const NO_ENTRIES: ReadonlyMap<SubscriptionTarget, readonly SubscriptionEntry[]> = new Map();

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
  /** The last match of each channel: the groups of a channel ask for the same one after another. */
  readonly #lastByChannel = new Map<string, LastMatch>();
  /** The subscriptions of each channel by event, where they depend on nothing else; null: they do. */
  readonly #plain = new Map<string, Map<FilterEvent, readonly Subscription[] | null>>();

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

  /** The targets that may have a matching subscription. */
  targets(change: DecodedChange): Iterable<SubscriptionTarget> {
    const subscriptions = this.#subscriptions;
    if (change.streamed.kind === 'truncate') return subscriptions.targets;
    const matching = this.#matchingOf(change);
    if (matching.size === 0) return subscriptions.targetsWithUnconditional;
    return new Set([...subscriptions.targetsWithUnconditional, ...matching.keys()]);
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
    const last = this.#lastByChannel.get(channel.name);
    if (last?.change === change) return last.match;
    const plain = this.#plainOf(change, channel.name);
    const match = plain === null ? this.#match(change, [channel.name]) : plainMatch(change, plain);
    if (last === undefined) this.#lastByChannel.set(channel.name, { change, match });
    else {
      last.change = change;
      last.match = match;
    }
    return match;
  }

  /** Returns the subscriptions of a channel that match every change with this event; null: there are others. */
  #plainOf(change: DecodedChange, channel: string): readonly Subscription[] | null {
    const event = eventOf(change);
    if (event === undefined || this.#subscriptions.hasConditions) return null;
    const byEvent = this.#plain.get(channel) ?? new Map<FilterEvent, readonly Subscription[] | null>();
    let plain = byEvent.get(event);
    if (plain === undefined) {
      const entries = [...this.#subscriptions.unconditionalOf(channel)];
      plain = entries.some(({ subscription }) => subscription.snapshot !== undefined)
        ? null
        : this.#sets.of(entries.filter(({ subscription }) => isSubscribedTo(subscription, change)));
      this.#plain.set(channel, byEvent.set(event, plain));
    }
    return plain;
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
    if (!this.#subscriptions.hasConditions) return NO_ENTRIES;
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

interface LastMatch {
  change: DecodedChange;
  match: ChangeMatch | undefined;
}

/** Returns the match of subscriptions without conditions, which match all versions of a row. */
function plainMatch(change: DecodedChange, subscriptions: readonly Subscription[]): ChangeMatch | undefined {
  const { oldRow, newRow } = change;
  if (subscriptions.length === 0) return undefined;
  return {
    change,
    oldSubscriptions: oldRow === NO_ROW ? NONE : subscriptions,
    newSubscriptions: newRow === NO_ROW ? NONE : subscriptions,
    isOldUnknown: oldRow === NO_ROW,
  };
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
