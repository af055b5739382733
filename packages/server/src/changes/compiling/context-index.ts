import { type CandidateKey, candidateKeys } from './candidate-keys.js';
import type { Value } from './exact-values.js';
import { ExactRow, type Predicate, type Slot, type Test, testOf } from './predicate.js';

/** An `equal` key, and who has which of its values. */
interface ValueIndex<T> {
  readonly key: CandidateKey & { readonly kind: 'equal' };
  readonly byValue: Map<Value, Map<T, readonly Slot[]>>;
}

/**
 * Who of many a predicate is true for. Where it says `column = something of the context`, a row is looked up and not
 * held against each: what a row costs does not grow with those that it is not for.
 */
export class ContextIndex<T> {
  readonly #test: Test;
  readonly #all = new Map<T, readonly Slot[]>();
  /** Of each way in which the predicate can be true; undefined: everybody is held against each row. */
  readonly #values: readonly ValueIndex<T>[] | undefined;
  readonly #rowTests: readonly Test[];
  readonly #contextTests: readonly Test[];
  /** Those for whom one of the context tests is true. */
  readonly #whateverRow = new Map<T, readonly Slot[]>();

  constructor(predicate: Predicate) {
    this.#test = testOf(predicate);
    const keys = candidateKeys(predicate);
    const tests = (kind: 'row' | 'context') =>
      (keys ?? []).flatMap((key) => (key.kind === kind ? [testOf(key.predicate)] : []));
    this.#values = keys?.flatMap((key) => (key.kind === 'equal' ? [{ key, byValue: new Map() }] : []));
    this.#rowTests = tests('row');
    this.#contextTests = tests('context');
  }

  /** The places of the columns by which rows are looked up. */
  get columns(): readonly number[] {
    return (this.#values ?? []).map(({ key }) => key.column.place);
  }

  /** Whether rows are looked up. */
  get isIndexed(): boolean {
    return this.#values !== undefined;
  }

  get size(): number {
    return this.#all.size;
  }

  add(who: T, slots: readonly Slot[]): void {
    this.#all.set(who, slots);
    for (const { key, byValue } of this.#values ?? []) {
      for (const value of valuesOf(slots[key.slot])) {
        const others = byValue.get(value);
        if (others === undefined) byValue.set(value, new Map([[who, slots]]));
        else others.set(who, slots);
      }
    }
    if (this.#contextTests.some((test) => test(NO_ROW, slots) === true)) this.#whateverRow.set(who, slots);
  }

  remove(who: T): void {
    const slots = this.#all.get(who);
    if (slots === undefined) return;
    this.#all.delete(who);
    this.#whateverRow.delete(who);
    for (const { key, byValue } of this.#values ?? []) {
      for (const value of valuesOf(slots[key.slot])) {
        const others = byValue.get(value);
        others?.delete(who);
        if (others?.size === 0) byValue.delete(value);
      }
    }
  }

  /** For whom it is true. The columns that it reads must be known. */
  find(row: ExactRow): Iterable<T> {
    const isForAll = this.#rowTests.some((test) => test(row, NO_SLOTS) === true);
    if (this.#values === undefined || isForAll) return this.#tested(row, [this.#all]);
    const candidates: ReadonlyMap<T, readonly Slot[]>[] = [];
    if (this.#whateverRow.size > 0) candidates.push(this.#whateverRow);
    for (const { key, byValue } of this.#values) {
      const { place, family, asText } = key.column;
      const value = asText ? row.text(place) : row.value(place, family);
      const found = value === null ? undefined : byValue.get(value);
      if (found !== undefined) candidates.push(found);
    }
    return this.#tested(row, candidates);
  }

  #tested(row: ExactRow, candidates: readonly ReadonlyMap<T, readonly Slot[]>[]): Iterable<T> {
    const found = new Set<T>();
    for (const some of candidates) {
      for (const [who, slots] of some) if (this.#test(row, slots) === true) found.add(who);
    }
    return found;
  }
}

const NO_ROW = new ExactRow([]);
const NO_SLOTS: readonly Slot[] = [];

function valuesOf(slot: Slot | undefined): Iterable<Value> {
  if (slot === undefined || slot === null) return [];
  return typeof slot === 'object' ? slot.values : [slot];
}
