import type { RecipientGroup, SubscriptionTarget } from '../model/recipient-group.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { EvaluationResult } from '../visibility/authorizer.js';
import { type DecodedChange, eventOf, NO_ROW, type TableBatch } from './table-batch.js';
import type { Entry, TableSubscriptions } from './table-subscriptions.js';

/** A change that some subscription wants, whoever may see it. */
export interface ChangeMatch {
  readonly change: DecodedChange;
  /** Those whose condition is true of the old version, and of the new one. */
  readonly oldSubscriptions: readonly Subscription[];
  readonly newSubscriptions: readonly Subscription[];
  /** Whether the old version was wanted cannot be told: the log does not have it, or not the columns that matter. */
  readonly isOldUnknown: boolean;
}

const NONE: readonly Subscription[] = [];

/** Whether the change is one that the subscription is about, and not in the snapshot that it began with. */
export function isSubscribedTo({ filter, seen }: Subscription, change: DecodedChange): boolean {
  const event = eventOf(change);
  if (event === undefined || !filter.events.includes(event)) return false;
  return seen?.sees(change.streamed.transaction.xid) !== true;
}

/**
 * What of a batch is wanted by the subscriptions of channels and of connections, as far as one role may know: a
 * condition on a column that it may not read would be an oracle.
 */
export class FilterMatches {
  readonly #tableBatch: TableBatch;
  readonly #subscriptions: TableSubscriptions;
  /** What PostgreSQL said of conditions, by their SQL. */
  readonly #conditionResults: ReadonlyMap<string, EvaluationResult>;
  /** The names of those that the role may read. */
  readonly #columns: ReadonlySet<string>;
  readonly #sets = new SubscriptionSets();
  /** The places of the columns that conditions read. */
  readonly #required = new Map<readonly string[], readonly number[] | null>();
  readonly #matching = new Map<DecodedChange, ReadonlyMap<SubscriptionTarget, readonly Entry[]>>();
  readonly #ofChannels = new Map<DecodedChange, Map<string, ChangeMatch | undefined>>();

  constructor(
    tableBatch: TableBatch,
    subscriptions: TableSubscriptions,
    conditionResults: ReadonlyMap<string, EvaluationResult>,
    columns: ReadonlySet<string>,
  ) {
    this.#tableBatch = tableBatch;
    this.#subscriptions = subscriptions;
    this.#conditionResults = conditionResults;
    this.#columns = columns;
  }

  /** Whether anybody wants the change. */
  hasMatch(change: DecodedChange): boolean {
    if (change.streamed.kind === 'truncate') return !this.#subscriptions.isEmpty;
    return this.#subscriptions.hasUnconditional || this.#matchingOf(change).size > 0;
  }

  /** The places that want the change by a condition; those that want every change are `subscriptions.withAlways`. */
  conditionalTargets(change: DecodedChange): Iterable<SubscriptionTarget> {
    return this.#matchingOf(change).keys();
  }

  /** The subscriptions that want the change by a condition. */
  matching(change: DecodedChange): readonly Entry[] {
    return [...this.#matchingOf(change).values()]
      .flat()
      .filter((entry) => isSubscribedTo(entry.subscription, change));
  }

  /** What the members of a seat want of a change; undefined: nothing. */
  of(change: DecodedChange, { channel, owner }: RecipientGroup): ChangeMatch | undefined {
    if (owner !== undefined) return this.#match(change, [channel.name, owner]);
    let known = this.#ofChannels.get(change);
    if (known === undefined) {
      known = new Map();
      this.#ofChannels.set(change, known);
    }
    if (known.has(channel.name)) return known.get(channel.name);
    const match = this.#match(change, [channel.name]);
    known.set(channel.name, match);
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
    const entries: Entry[] = [];
    for (const target of targets) {
      for (const entry of [...subscriptions.unconditionalOf(target), ...(matching.get(target) ?? [])])
        if (isSubscribedTo(entry.subscription, change)) entries.push(entry);
    }
    if (entries.length === 0) return undefined;
    entries.sort((a, b) => a.order - b.order);
    const oldSubscriptions = this.#subscriptionsOf(entries, change.oldRow);
    const newSubscriptions = this.#subscriptionsOf(entries, change.newRow);
    if (oldSubscriptions.length + newSubscriptions.length === 0) return undefined;
    return {
      change,
      oldSubscriptions,
      newSubscriptions,
      isOldUnknown: this.#isUnknown(entries, change.oldRow),
    };
  }

  #subscriptionsOf(entries: readonly Entry[], row: number): readonly Subscription[] {
    if (row === NO_ROW) return NONE;
    return this.#sets.of(entries.filter((entry) => this.#holds(entry, row)));
  }

  #holds({ subscription: { condition }, test }: Entry, row: number): boolean {
    if (condition === null) return true;
    if (!this.#canRead(condition.columns) || !this.#knows(row, condition.columns)) return false;
    if (test !== undefined) return test(this.#tableBatch.typedRow(row), []) === true;
    return this.#conditionResults.get(condition.sql)?.visible.has(row) === true;
  }

  #isUnknown(entries: readonly Entry[], row: number): boolean {
    if (row === NO_ROW) return true;
    return entries.some(
      ({ subscription: { condition } }) => condition !== null && !this.#knows(row, condition.columns),
    );
  }

  #canRead(columns: readonly string[]): boolean {
    return columns.every((name) => this.#columns.has(name));
  }

  #knows(row: number, columns: readonly string[]): boolean {
    let required = this.#required.get(columns);
    if (required === undefined) {
      required = this.#tableBatch.view.requirement(columns);
      this.#required.set(columns, required);
    }
    return required !== null && this.#tableBatch.knows(row, required);
  }

  /** By place, the entries with a condition that is true of a version of the row. */
  #matchingOf(change: DecodedChange): ReadonlyMap<SubscriptionTarget, readonly Entry[]> {
    let found = this.#matching.get(change);
    if (found !== undefined) return found;
    const entries = new Set<Entry>();
    for (const row of [change.oldRow, change.newRow]) {
      if (row === NO_ROW) continue;
      const isKnown = (columnIndex: number) => this.#tableBatch.knows(row, [columnIndex]);
      for (const entry of this.#subscriptions.candidates(this.#tableBatch.typedRow(row), isKnown))
        if (this.#holds(entry, row)) entries.add(entry);
    }
    const byTarget = new Map<SubscriptionTarget, Entry[]>();
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

/** Equal sets of subscriptions are one array, so that what is made for a set is made once. */
class SubscriptionSets {
  readonly #known = new Map<string, readonly Subscription[]>();

  of(entries: readonly Entry[]): readonly Subscription[] {
    const key = entries.map(({ subscription: { id } }) => id).join();
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const subscriptions = entries.map(({ subscription }) => subscription);
    this.#known.set(key, subscriptions);
    return subscriptions;
  }
}
