import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Authorizer, Condition } from '../visibility/authorizer.js';
import { type Column, valueKey } from '../visibility/compiling/candidate-keys.js';
import type { Compilation } from '../visibility/compiling/compiled-expression.js';
import { type Test, type TypedRow, testOf } from '../visibility/compiling/predicate.js';
import type { Value } from '../visibility/compiling/typed-values.js';

/** A subscription, and how its condition is evaluated. */
export interface Entry {
  /** Where it stands among all of the table. */
  readonly order: number;
  readonly target: SubscriptionTarget;
  readonly subscription: Subscription;
  /** In process; undefined: by PostgreSQL, or there is no condition. */
  readonly test: Test | undefined;
}

/** An entry, and by what it is found. */
interface IndexedEntry {
  readonly entry: Entry;
  readonly condition: Condition | null;
  /** One of these values must be in the column. */
  readonly key: ReturnType<typeof valueKey>;
}

/** The subscriptions with a condition that one column must have one of some values for. */
interface ByValue {
  readonly column: Column;
  readonly entries: Map<Value, Set<Entry>>;
}

const NONE: ReadonlySet<Entry> = new Set();

/** All subscriptions to one table: a row finds those that want it, without a look at each of the others. */
export class TableSubscriptions {
  readonly #authorizer: Pick<Authorizer, 'compileCondition'>;
  readonly #facts: TableFacts;
  readonly #known = new Map<Subscription, IndexedEntry>();
  readonly #targets = new Map<SubscriptionTarget, Set<Entry>>();
  readonly #unconditional = new Map<SubscriptionTarget, Set<Entry>>();
  readonly #byValue = new Map<string, ByValue>();
  /** Those that are held against each row. */
  readonly #unindexed = new Set<Entry>();
  /** Conditions that PostgreSQL evaluates, by their SQL, and who has them. */
  readonly #inPostgres = new Map<string, Set<Entry>>();
  #added = 0;

  constructor(authorizer: Pick<Authorizer, 'compileCondition'>, facts: TableFacts) {
    this.#authorizer = authorizer;
    this.#facts = facts;
  }

  /** From here on there are these, each at its place. What was there before costs nothing. */
  async update(all: readonly (readonly [SubscriptionTarget, Subscription])[]): Promise<void> {
    const isCurrent = (subscription: Subscription) =>
      this.#known.get(subscription)?.condition === subscription.condition;
    const added = all.filter(([, subscription]) => !isCurrent(subscription));
    const exact = await this.#compileConditions(added.map(([, { condition }]) => condition));
    const current = new Set(all.map(([, subscription]) => subscription));
    for (const [subscription, known] of this.#known)
      if (!current.has(subscription) || !isCurrent(subscription)) this.#remove(known);
    for (const [target, subscription] of added)
      this.#add(target, subscription, exact.get(subscription.condition?.sql ?? ''));
  }

  /** Conditions that PostgreSQL evaluates. */
  get conditionsInPostgres(): readonly Condition[] {
    return [...this.#inPostgres.values()].flatMap(([entry]) => entry?.subscription.condition ?? []);
  }

  get isEmpty(): boolean {
    return this.#targets.size === 0;
  }

  /** Whether some are for every row. */
  get hasUnconditional(): boolean {
    return this.#unconditional.size > 0;
  }

  get targets(): Iterable<SubscriptionTarget> {
    return this.#targets.keys();
  }

  /** Those with a condition that PostgreSQL evaluates. */
  withCondition(sql: string): Iterable<Entry> {
    return this.#inPostgres.get(sql) ?? NONE;
  }

  /** All of a place. */
  of(target: SubscriptionTarget): Iterable<Entry> {
    return this.#targets.get(target) ?? NONE;
  }

  /** Those of a place that are for every row. */
  unconditionalOf(target: SubscriptionTarget): Iterable<Entry> {
    return this.#unconditional.get(target) ?? NONE;
  }

  /** All that are for every row. */
  *unconditional(): Iterable<Entry> {
    for (const entries of this.#unconditional.values()) yield* entries;
  }

  get targetsWithUnconditional(): Iterable<SubscriptionTarget> {
    return this.#unconditional.keys();
  }

  /** Those with a condition that may be true of the row: all for which it is are among them. */
  *candidates(row: TypedRow, isCurrent: (target: number) => boolean): Iterable<Entry> {
    yield* this.#unindexed;
    for (const { column, entries } of this.#byValue.values()) {
      if (!isCurrent(column.columnIndex)) continue;
      const value = column.asText
        ? row.text(column.columnIndex)
        : row.value(column.columnIndex, column.family);
      if (value !== null) yield* entries.get(value) ?? NONE;
    }
  }

  /** How conditions are evaluated, by their SQL. */
  async #compileConditions(
    conditions: readonly (Condition | null)[],
  ): Promise<ReadonlyMap<string, Compilation>> {
    const distinct = new Map<string, Condition>();
    for (const condition of conditions) if (condition !== null) distinct.set(condition.sql, condition);
    const all = [...distinct.values()].map(
      async (condition) =>
        [condition.sql, await this.#authorizer.compileCondition(this.#facts, condition)] as const,
    );
    return new Map(await Promise.all(all));
  }

  #add(target: SubscriptionTarget, subscription: Subscription, exact: Compilation | undefined): void {
    const predicate = exact !== undefined && 'compiled' in exact ? exact.compiled.predicate : undefined;
    const entry: Entry = {
      order: this.#added++,
      target,
      subscription,
      test: predicate === undefined ? undefined : testOf(predicate),
    };
    const key = predicate === undefined ? undefined : valueKey(predicate);
    const { condition } = subscription;
    this.#known.set(subscription, { entry, condition, key });
    addTo(this.#targets, target, entry);
    if (condition === null) addTo(this.#unconditional, target, entry);
    else if (key === undefined) this.#unindexed.add(entry);
    else for (const [value, entries] of this.#valuesOf(key)) addTo(entries, value, entry);
    if (condition !== null && predicate === undefined) addTo(this.#inPostgres, condition.sql, entry);
  }

  #remove({ entry, condition, key }: IndexedEntry): void {
    const { target, subscription } = entry;
    this.#known.delete(subscription);
    removeFrom(this.#targets, target, entry);
    removeFrom(this.#unconditional, target, entry);
    this.#unindexed.delete(entry);
    if (key !== undefined)
      for (const [value, entries] of this.#valuesOf(key)) removeFrom(entries, value, entry);
    if (condition !== null) removeFrom(this.#inPostgres, condition.sql, entry);
  }

  /** Where an entry with this key stands, by each value. */
  #valuesOf({ column, values }: NonNullable<IndexedEntry['key']>): [Value, Map<Value, Set<Entry>>][] {
    const name = `${column.columnIndex} ${column.asText === true}`;
    const own = this.#byValue.get(name) ?? { column, entries: new Map<Value, Set<Entry>>() };
    this.#byValue.set(name, own);
    return [...new Set(values)].map((value) => [value, own.entries]);
  }
}

function addTo<K>(map: Map<K, Set<Entry>>, key: K, entry: Entry): void {
  const others = map.get(key);
  if (others === undefined) map.set(key, new Set([entry]));
  else others.add(entry);
}

function removeFrom<K>(map: Map<K, Set<Entry>>, key: K, entry: Entry): void {
  const others = map.get(key);
  others?.delete(entry);
  if (others?.size === 0) map.delete(key);
}
