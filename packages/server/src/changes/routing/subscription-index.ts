import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Authorizer, Condition } from '../visibility/authorizer.js';
import { type Column, valueKey } from '../visibility/compiling/lookup-keys.js';
import { type Test, testOf } from '../visibility/compiling/predicate.js';
import type { Value } from '../visibility/compiling/type-families.js';
import type { TypedRow } from '../visibility/compiling/typed-row.js';

/** A subscription to a table. */
export interface SubscriptionEntry {
  /** The rank of the subscription among all of the table, in the order in which they were added. */
  readonly order: number;
  readonly target: SubscriptionTarget;
  readonly subscription: Subscription;
}

/** The subscriptions with one condition, which is compiled and evaluated once for all of them. */
export interface ConditionGroup {
  readonly condition: Condition;
  /** Evaluates the condition in process; undefined: PostgreSQL evaluates it. */
  readonly test: Test | undefined;
  /** The condition can only be true if the column has one of these values; undefined: no such column. */
  readonly key: ReturnType<typeof valueKey>;
  readonly entries: Set<SubscriptionEntry>;
}

/** An entry, with the condition that it is indexed by. */
interface IndexedEntry {
  readonly entry: SubscriptionEntry;
  readonly group: ConditionGroup | null;
}

/** The conditions that can only be true for certain values of one column, by value. */
interface ColumnValueIndex {
  readonly column: Column;
  readonly groups: Map<Value, Set<ConditionGroup>>;
}

const NONE: ReadonlySet<SubscriptionEntry> = new Set();
const NO_GROUPS: ReadonlySet<ConditionGroup> = new Set();

/** Compiling asks PostgreSQL, on connections that others need as well. */
const COMPILED_AT_ONCE = 4;

/** Indexes all subscriptions to one table, so that a row finds those that match it without a test of each. */
export class SubscriptionIndex {
  readonly #authorizer: Pick<Authorizer, 'compileCondition'>;
  readonly #facts: TableFacts;
  readonly #indexedEntries = new Map<Subscription, IndexedEntry>();
  readonly #byTarget = new Map<SubscriptionTarget, Set<SubscriptionEntry>>();
  readonly #unconditionalByTarget = new Map<SubscriptionTarget, Set<SubscriptionEntry>>();
  readonly #valueIndexes = new Map<string, ColumnValueIndex>();
  /** By the SQL of the condition. */
  readonly #groups = new Map<string, ConditionGroup>();
  /** The conditions that are tested on every row. */
  readonly #unindexed = new Set<ConditionGroup>();
  #nextOrder = 0;

  constructor(authorizer: Pick<Authorizer, 'compileCondition'>, facts: TableFacts) {
    this.#authorizer = authorizer;
    this.#facts = facts;
  }

  /** Replaces all subscriptions by these, each with its target. Only new and changed ones cost anything. */
  async update(all: readonly (readonly [SubscriptionTarget, Subscription])[]): Promise<void> {
    const isIndexed = (subscription: Subscription) => {
      const indexed = this.#indexedEntries.get(subscription);
      return indexed !== undefined && (indexed.group?.condition ?? null)?.sql === subscription.condition?.sql;
    };
    const added = all.filter(([, subscription]) => !isIndexed(subscription));
    const groups = await this.#groupsOf(added.map(([, { condition }]) => condition));
    const current = new Set(all.map(([, subscription]) => subscription));
    for (const [subscription, indexedEntry] of this.#indexedEntries)
      if (!current.has(subscription) || !isIndexed(subscription)) this.#remove(indexedEntry);
    for (const [target, subscription] of added)
      this.#add(target, subscription, groups.get(subscription.condition?.sql ?? '') ?? null);
  }

  get isEmpty(): boolean {
    return this.#byTarget.size === 0;
  }

  /** Whether there are subscriptions without a condition. */
  get hasUnconditional(): boolean {
    return this.#unconditionalByTarget.size > 0;
  }

  /** Whether there are subscriptions with a condition. */
  get hasConditions(): boolean {
    return this.#groups.size > 0;
  }

  /** The targets that have subscriptions. */
  get targets(): Iterable<SubscriptionTarget> {
    return this.#byTarget.keys();
  }

  /** The entries of a target. */
  of(target: SubscriptionTarget): Iterable<SubscriptionEntry> {
    return this.#byTarget.get(target) ?? NONE;
  }

  /** The entries of a target without a condition. */
  unconditionalOf(target: SubscriptionTarget): Iterable<SubscriptionEntry> {
    return this.#unconditionalByTarget.get(target) ?? NONE;
  }

  /** The entries without a condition. */
  *unconditional(): Iterable<SubscriptionEntry> {
    for (const entries of this.#unconditionalByTarget.values()) yield* entries;
  }

  /** The targets with subscriptions without a condition. */
  get targetsWithUnconditional(): Iterable<SubscriptionTarget> {
    return this.#unconditionalByTarget.keys();
  }

  /**
   * Yields every condition that may be true of the row; none that is true is left out. `isKnown`: whether the row has the
   * value of a column, by its index in catalog order.
   */
  *candidates(row: TypedRow, isKnown: (columnIndex: number) => boolean): Iterable<ConditionGroup> {
    yield* this.#unindexed;
    for (const { column, groups } of this.#valueIndexes.values()) {
      if (!isKnown(column.columnIndex)) continue;
      const value = column.asText
        ? row.text(column.columnIndex)
        : row.value(column.columnIndex, column.family);
      if (value !== null) yield* groups.get(value) ?? NO_GROUPS;
    }
  }

  /** Returns the group of each condition by its SQL: the present one, or a new one without entries. */
  async #groupsOf(conditions: readonly (Condition | null)[]): Promise<ReadonlyMap<string, ConditionGroup>> {
    const distinct = new Map<string, Condition>();
    for (const condition of conditions) if (condition !== null) distinct.set(condition.sql, condition);
    const groups = new Map<string, ConditionGroup>();
    const left = distinct.values();
    const nextGroup = async (): Promise<void> => {
      for (const condition of left)
        groups.set(condition.sql, this.#groups.get(condition.sql) ?? (await this.#newGroup(condition)));
    };
    await Promise.all(Array.from({ length: COMPILED_AT_ONCE }, nextGroup));
    return groups;
  }

  async #newGroup(condition: Condition): Promise<ConditionGroup> {
    const compilation = await this.#authorizer.compileCondition(this.#facts, condition);
    const entries = new Set<SubscriptionEntry>();
    if (!('compiled' in compilation)) return { condition, test: undefined, key: undefined, entries };
    const { predicate } = compilation.compiled;
    return { condition, test: testOf(predicate), key: valueKey(predicate), entries };
  }

  #add(target: SubscriptionTarget, subscription: Subscription, group: ConditionGroup | null): void {
    const entry: SubscriptionEntry = { order: this.#nextOrder++, target, subscription };
    this.#indexedEntries.set(subscription, { entry, group });
    addTo(this.#byTarget, target, entry);
    if (group === null) {
      addTo(this.#unconditionalByTarget, target, entry);
      return;
    }
    if (group.entries.size === 0) this.#addGroup(group);
    group.entries.add(entry);
  }

  #remove({ entry, group }: IndexedEntry): void {
    const { target, subscription } = entry;
    this.#indexedEntries.delete(subscription);
    removeFrom(this.#byTarget, target, entry);
    removeFrom(this.#unconditionalByTarget, target, entry);
    group?.entries.delete(entry);
    if (group?.entries.size === 0) this.#removeGroup(group);
  }

  #addGroup(group: ConditionGroup): void {
    this.#groups.set(group.condition.sql, group);
    if (group.key === undefined) this.#unindexed.add(group);
    else for (const [value, groups] of this.#valuesOf(group.key)) addTo(groups, value, group);
  }

  #removeGroup(group: ConditionGroup): void {
    this.#groups.delete(group.condition.sql);
    this.#unindexed.delete(group);
    if (group.key !== undefined)
      for (const [value, groups] of this.#valuesOf(group.key)) removeFrom(groups, value, group);
  }

  /** Returns, for each value of the key, the map that indexes conditions by it. */
  #valuesOf({
    column,
    values,
  }: NonNullable<ConditionGroup['key']>): [Value, Map<Value, Set<ConditionGroup>>][] {
    const name = `${column.columnIndex} ${column.asText === true}`;
    const index = this.#valueIndexes.get(name) ?? { column, groups: new Map<Value, Set<ConditionGroup>>() };
    this.#valueIndexes.set(name, index);
    return [...new Set(values)].map((value) => [value, index.groups]);
  }
}

function addTo<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const others = map.get(key);
  if (others === undefined) map.set(key, new Set([value]));
  else others.add(value);
}

function removeFrom<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const others = map.get(key);
  others?.delete(value);
  if (others?.size === 0) map.delete(key);
}
