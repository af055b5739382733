import type { Authorizer, Condition } from '../authorizer.js';
import { type Column, valueKey } from '../compiling/candidate-keys.js';
import type { Exactness } from '../compiling/compiled-expression.js';
import type { Value } from '../compiling/exact-values.js';
import { type ExactRow, type Test, testOf } from '../compiling/predicate.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { TableFacts } from '../table-facts.js';
import type { Place } from './seat.js';

/** A subscription, and how its condition is evaluated. */
export interface Entry {
  /** Where it stands among all of the table. */
  readonly order: number;
  readonly place: Place;
  readonly subscription: Subscription;
  /** In process; undefined: by PostgreSQL, or there is no condition. */
  readonly test: Test | undefined;
}

/** An entry, and by what it is found. */
interface Known {
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
  readonly #authorizer: Pick<Authorizer, 'exactCondition'>;
  readonly #facts: TableFacts;
  readonly #known = new Map<Subscription, Known>();
  readonly #places = new Map<Place, Set<Entry>>();
  readonly #always = new Map<Place, Set<Entry>>();
  readonly #byValue = new Map<string, ByValue>();
  /** Those that are held against each row. */
  readonly #scanned = new Set<Entry>();
  /** Conditions that PostgreSQL evaluates, by their SQL, and who has them. */
  readonly #asked = new Map<string, Set<Entry>>();
  #added = 0;

  constructor(authorizer: Pick<Authorizer, 'exactCondition'>, facts: TableFacts) {
    this.#authorizer = authorizer;
    this.#facts = facts;
  }

  /** From here on there are these, each at its place. What was there before costs nothing. */
  async update(all: readonly (readonly [Place, Subscription])[]): Promise<void> {
    const isKnown = (subscription: Subscription) =>
      this.#known.get(subscription)?.condition === subscription.condition;
    const coming = all.filter(([, subscription]) => !isKnown(subscription));
    const exact = await this.#exact(coming.map(([, { condition }]) => condition));
    const current = new Set(all.map(([, subscription]) => subscription));
    for (const [subscription, known] of this.#known)
      if (!current.has(subscription) || !isKnown(subscription)) this.#remove(known);
    for (const [place, subscription] of coming)
      this.#add(place, subscription, exact.get(subscription.condition?.sql ?? ''));
  }

  /** Conditions that PostgreSQL evaluates. */
  get asked(): readonly Condition[] {
    return [...this.#asked.values()].flatMap(([entry]) => entry?.subscription.condition ?? []);
  }

  get isEmpty(): boolean {
    return this.#places.size === 0;
  }

  /** Whether some are for every row. */
  get hasAlways(): boolean {
    return this.#always.size > 0;
  }

  get places(): Iterable<Place> {
    return this.#places.keys();
  }

  /** Those with a condition that PostgreSQL evaluates. */
  withCondition(sql: string): Iterable<Entry> {
    return this.#asked.get(sql) ?? NONE;
  }

  /** All of a place. */
  of(place: Place): Iterable<Entry> {
    return this.#places.get(place) ?? NONE;
  }

  /** Those of a place that are for every row. */
  always(place: Place): Iterable<Entry> {
    return this.#always.get(place) ?? NONE;
  }

  /** All that are for every row. */
  *unconditional(): Iterable<Entry> {
    for (const entries of this.#always.values()) yield* entries;
  }

  get withAlways(): Iterable<Place> {
    return this.#always.keys();
  }

  /** Those with a condition that may be true of the row: all for which it is are among them. */
  *candidates(row: ExactRow, isKnown: (place: number) => boolean): Iterable<Entry> {
    yield* this.#scanned;
    for (const { column, entries } of this.#byValue.values()) {
      if (!isKnown(column.place)) continue;
      const value = column.asText ? row.text(column.place) : row.value(column.place, column.family);
      if (value !== null) yield* entries.get(value) ?? NONE;
    }
  }

  /** How conditions are evaluated, by their SQL. */
  async #exact(conditions: readonly (Condition | null)[]): Promise<ReadonlyMap<string, Exactness>> {
    const distinct = new Map<string, Condition>();
    for (const condition of conditions) if (condition !== null) distinct.set(condition.sql, condition);
    const all = [...distinct.values()].map(
      async (condition) =>
        [condition.sql, await this.#authorizer.exactCondition(this.#facts, condition)] as const,
    );
    return new Map(await Promise.all(all));
  }

  #add(place: Place, subscription: Subscription, exact: Exactness | undefined): void {
    const predicate = exact !== undefined && 'compiled' in exact ? exact.compiled.predicate : undefined;
    const entry: Entry = {
      order: this.#added++,
      place,
      subscription,
      test: predicate === undefined ? undefined : testOf(predicate),
    };
    const key = predicate === undefined ? undefined : valueKey(predicate);
    const { condition } = subscription;
    this.#known.set(subscription, { entry, condition, key });
    put(this.#places, place, entry);
    if (condition === null) put(this.#always, place, entry);
    else if (key === undefined) this.#scanned.add(entry);
    else for (const [value, entries] of this.#valuesOf(key)) put(entries, value, entry);
    if (condition !== null && predicate === undefined) put(this.#asked, condition.sql, entry);
  }

  #remove({ entry, condition, key }: Known): void {
    const { place, subscription } = entry;
    this.#known.delete(subscription);
    take(this.#places, place, entry);
    take(this.#always, place, entry);
    this.#scanned.delete(entry);
    if (key !== undefined) for (const [value, entries] of this.#valuesOf(key)) take(entries, value, entry);
    if (condition !== null) take(this.#asked, condition.sql, entry);
  }

  /** Where an entry with this key stands, by each value. */
  #valuesOf({ column, values }: NonNullable<Known['key']>): [Value, Map<Value, Set<Entry>>][] {
    const name = `${column.place} ${column.asText === true}`;
    const own = this.#byValue.get(name) ?? { column, entries: new Map<Value, Set<Entry>>() };
    this.#byValue.set(name, own);
    return [...new Set(values)].map((value) => [value, own.entries]);
  }
}

function put<K>(map: Map<K, Set<Entry>>, key: K, entry: Entry): void {
  const others = map.get(key);
  if (others === undefined) map.set(key, new Set([entry]));
  else others.add(entry);
}

function take<K>(map: Map<K, Set<Entry>>, key: K, entry: Entry): void {
  const others = map.get(key);
  others?.delete(entry);
  if (others?.size === 0) map.delete(key);
}
