import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Authorizer, Condition } from '../visibility/authorizer.js';
import type { Compilation } from '../visibility/compiling/compiled-expression.js';
import { type Column, valueKey } from '../visibility/compiling/lookup-keys.js';
import { type Test, type TypedRow, testOf } from '../visibility/compiling/predicate.js';
import type { Value } from '../visibility/compiling/type-families.js';

/** A subscription to a table, with the test of its condition. */
export interface SubscriptionEntry {
  /** The rank of the subscription among all of the table, in the order in which they were added. */
  readonly order: number;
  readonly target: SubscriptionTarget;
  readonly subscription: Subscription;
  /** Evaluates the condition in process; undefined: PostgreSQL evaluates it, or there is none. */
  readonly test: Test | undefined;
}

/** An entry, with the keys under which it is indexed. */
interface IndexedEntry {
  readonly entry: SubscriptionEntry;
  readonly condition: Condition | null;
  /** The condition can only be true if the column has one of these values; undefined: no such column. */
  readonly key: ReturnType<typeof valueKey>;
}

/** The subscriptions whose condition can only be true for certain values of one column, by value. */
interface ColumnValueIndex {
  readonly column: Column;
  readonly entries: Map<Value, Set<SubscriptionEntry>>;
}

const NONE: ReadonlySet<SubscriptionEntry> = new Set();

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
  /** The entries whose condition is tested on every row. */
  readonly #unindexed = new Set<SubscriptionEntry>();
  /** The entries whose condition PostgreSQL evaluates, by its SQL. */
  readonly #byPostgresCondition = new Map<string, Set<SubscriptionEntry>>();
  #nextOrder = 0;

  constructor(authorizer: Pick<Authorizer, 'compileCondition'>, facts: TableFacts) {
    this.#authorizer = authorizer;
    this.#facts = facts;
  }

  /** Replaces all subscriptions by these, each with its target. Only new and changed ones cost anything. */
  async update(all: readonly (readonly [SubscriptionTarget, Subscription])[]): Promise<void> {
    const isIndexed = (subscription: Subscription) =>
      this.#indexedEntries.get(subscription)?.condition === subscription.condition;
    const added = all.filter(([, subscription]) => !isIndexed(subscription));
    const compilations = await this.#compileConditions(added.map(([, { condition }]) => condition));
    const current = new Set(all.map(([, subscription]) => subscription));
    for (const [subscription, indexedEntry] of this.#indexedEntries)
      if (!current.has(subscription) || !isIndexed(subscription)) this.#remove(indexedEntry);
    for (const [target, subscription] of added)
      this.#add(target, subscription, compilations.get(subscription.condition?.sql ?? ''));
  }

  /** The distinct conditions that PostgreSQL evaluates. */
  get conditionsInPostgres(): readonly Condition[] {
    return [...this.#byPostgresCondition.values()].flatMap(([entry]) => entry?.subscription.condition ?? []);
  }

  get isEmpty(): boolean {
    return this.#byTarget.size === 0;
  }

  /** Whether there are subscriptions without a condition. */
  get hasUnconditional(): boolean {
    return this.#unconditionalByTarget.size > 0;
  }

  /** The targets that have subscriptions. */
  get targets(): Iterable<SubscriptionTarget> {
    return this.#byTarget.keys();
  }

  /** The entries with this condition, if PostgreSQL evaluates it. */
  withCondition(sql: string): Iterable<SubscriptionEntry> {
    return this.#byPostgresCondition.get(sql) ?? NONE;
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
   * Yields every entry whose condition may be true of the row; none whose condition is true is left out.
   * `isKnown`: whether the row has the value of a column, by its index in catalog order.
   */
  *candidates(row: TypedRow, isKnown: (columnIndex: number) => boolean): Iterable<SubscriptionEntry> {
    yield* this.#unindexed;
    for (const { column, entries } of this.#valueIndexes.values()) {
      if (!isKnown(column.columnIndex)) continue;
      const value = column.asText
        ? row.text(column.columnIndex)
        : row.value(column.columnIndex, column.family);
      if (value !== null) yield* entries.get(value) ?? NONE;
    }
  }

  /** Compiles distinct conditions; returns the results by their SQL. */
  async #compileConditions(
    conditions: readonly (Condition | null)[],
  ): Promise<ReadonlyMap<string, Compilation>> {
    const distinct = new Map<string, Condition>();
    for (const condition of conditions) if (condition !== null) distinct.set(condition.sql, condition);
    const compiled = new Map<string, Compilation>();
    const left = distinct.values();
    const compileNext = async (): Promise<void> => {
      for (const condition of left)
        compiled.set(condition.sql, await this.#authorizer.compileCondition(this.#facts, condition));
    };
    await Promise.all(Array.from({ length: COMPILED_AT_ONCE }, compileNext));
    return compiled;
  }

  #add(target: SubscriptionTarget, subscription: Subscription, compilation: Compilation | undefined): void {
    const predicate =
      compilation !== undefined && 'compiled' in compilation ? compilation.compiled.predicate : undefined;
    const entry: SubscriptionEntry = {
      order: this.#nextOrder++,
      target,
      subscription,
      test: predicate === undefined ? undefined : testOf(predicate),
    };
    const key = predicate === undefined ? undefined : valueKey(predicate);
    const { condition } = subscription;
    this.#indexedEntries.set(subscription, { entry, condition, key });
    addTo(this.#byTarget, target, entry);
    if (condition === null) addTo(this.#unconditionalByTarget, target, entry);
    else if (key === undefined) this.#unindexed.add(entry);
    else for (const [value, entries] of this.#valuesOf(key)) addTo(entries, value, entry);
    if (condition !== null && predicate === undefined) addTo(this.#byPostgresCondition, condition.sql, entry);
  }

  #remove({ entry, condition, key }: IndexedEntry): void {
    const { target, subscription } = entry;
    this.#indexedEntries.delete(subscription);
    removeFrom(this.#byTarget, target, entry);
    removeFrom(this.#unconditionalByTarget, target, entry);
    this.#unindexed.delete(entry);
    if (key !== undefined)
      for (const [value, entries] of this.#valuesOf(key)) removeFrom(entries, value, entry);
    if (condition !== null) removeFrom(this.#byPostgresCondition, condition.sql, entry);
  }

  /** Returns, for each value of the key, the map that indexes entries by it. */
  #valuesOf({
    column,
    values,
  }: NonNullable<IndexedEntry['key']>): [Value, Map<Value, Set<SubscriptionEntry>>][] {
    const name = `${column.columnIndex} ${column.asText === true}`;
    const index = this.#valueIndexes.get(name) ?? {
      column,
      entries: new Map<Value, Set<SubscriptionEntry>>(),
    };
    this.#valueIndexes.set(name, index);
    return [...new Set(values)].map((value) => [value, index.entries]);
  }
}

function addTo<K>(map: Map<K, Set<SubscriptionEntry>>, key: K, entry: SubscriptionEntry): void {
  const others = map.get(key);
  if (others === undefined) map.set(key, new Set([entry]));
  else others.add(entry);
}

function removeFrom<K>(map: Map<K, Set<SubscriptionEntry>>, key: K, entry: SubscriptionEntry): void {
  const others = map.get(key);
  others?.delete(entry);
  if (others?.size === 0) map.delete(key);
}
