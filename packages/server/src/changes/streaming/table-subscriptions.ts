import type { Authorizer, Condition } from '../authorizer.js';
import { type Column, valueKey } from '../compiling/candidate-keys.js';
import type { Value } from '../compiling/exact-values.js';
import { type ExactRow, type Test, testOf } from '../compiling/predicate.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { TableFacts } from '../table-facts.js';
import type { Place } from './seats.js';

/** A subscription, and how its condition is evaluated. */
export interface Entry {
  /** Where it stands among all of the table. */
  readonly order: number;
  readonly place: Place;
  readonly subscription: Subscription;
  /** In process; undefined: by PostgreSQL, or there is no condition. */
  readonly test: Test | undefined;
}

/** The subscriptions with a condition that one column must have one of some values for. */
interface ByValue {
  readonly column: Column;
  readonly entries: Map<Value, Entry[]>;
}

const NONE: readonly Entry[] = [];

/** All subscriptions to one table: a row finds those that want it, without a look at each of the others. */
export class TableSubscriptions {
  /** Conditions that PostgreSQL evaluates. */
  readonly asked: readonly Condition[];
  readonly #places = new Map<Place, Entry[]>();
  readonly #always = new Map<Place, Entry[]>();
  readonly #byValue = new Map<string, ByValue>();
  /** Those that are held against each row. */
  readonly #scanned: Entry[] = [];

  private constructor(asked: readonly Condition[]) {
    this.asked = asked;
  }

  static async of(
    authorizer: Pick<Authorizer, 'exactCondition'>,
    facts: TableFacts,
    subscriptions: readonly (readonly [Place, Subscription])[],
  ): Promise<TableSubscriptions> {
    const conditions = new Map<string, Condition>();
    for (const [, { condition }] of subscriptions)
      if (condition !== null) conditions.set(condition.sql, condition);
    const compiled = new Map(
      await Promise.all(
        [...conditions].map(
          async ([sql, condition]) => [sql, await authorizer.exactCondition(facts, condition)] as const,
        ),
      ),
    );
    const asked = [...conditions.values()].filter(({ sql }) => 'reason' in (compiled.get(sql) ?? {}));
    const table = new TableSubscriptions(asked);
    for (const [order, [place, subscription]] of subscriptions.entries()) {
      const exact = compiled.get(subscription.condition?.sql ?? '');
      const predicate = exact !== undefined && 'compiled' in exact ? exact.compiled.predicate : undefined;
      const test = predicate === undefined ? undefined : testOf(predicate);
      table.#add(
        { order, place, subscription, test },
        predicate === undefined ? undefined : valueKey(predicate),
      );
    }
    return table;
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

  withCondition(sql: string): readonly Entry[] {
    return this.#scanned.filter(({ subscription }) => subscription.condition?.sql === sql);
  }

  /** All of a place. */
  of(place: Place): readonly Entry[] {
    return this.#places.get(place) ?? NONE;
  }

  /** Those of a place that are for every row. */
  always(place: Place): readonly Entry[] {
    return this.#always.get(place) ?? NONE;
  }

  /** All that are for every row. */
  unconditional(): readonly Entry[] {
    return [...this.#always.values()].flat();
  }

  get withAlways(): Iterable<Place> {
    return this.#always.keys();
  }

  /** Those with a condition that may be true of the row: all for which it is are among them. */
  candidates(row: ExactRow, isKnown: (place: number) => boolean): readonly Entry[] {
    if (this.#byValue.size === 0) return this.#scanned;
    const found = [...this.#scanned];
    for (const { column, entries } of this.#byValue.values()) {
      if (!isKnown(column.place)) continue;
      const value = column.asText ? row.text(column.place) : row.value(column.place, column.family);
      if (value !== null) found.push(...(entries.get(value) ?? NONE));
    }
    return found;
  }

  #add(entry: Entry, key: ReturnType<typeof valueKey>): void {
    put(this.#places, entry.place, entry);
    if (entry.subscription.condition === null) put(this.#always, entry.place, entry);
    else if (key === undefined) this.#scanned.push(entry);
    else {
      const { column, values } = key;
      const name = `${column.place} ${column.asText === true}`;
      const own = this.#byValue.get(name) ?? { column, entries: new Map<Value, Entry[]>() };
      this.#byValue.set(name, own);
      for (const value of new Set(values)) put(own.entries, value, entry);
    }
  }
}

function put<K>(map: Map<K, Entry[]>, key: K, entry: Entry): void {
  const others = map.get(key);
  if (others === undefined) map.set(key, [entry]);
  else others.push(entry);
}
