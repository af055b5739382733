import { type LookupKey, lookupKeys } from './lookup-keys.js';
import { type ParameterValue, type Predicate, type Test, testOf } from './predicate.js';
import type { Value } from './type-families.js';
import { TypedRow } from './typed-row.js';

/** An `equal` key, with the items that have each of its values. */
interface ValueIndex<T> {
  readonly key: LookupKey & { readonly kind: 'equal' };
  readonly byValue: Map<Value, Map<T, readonly ParameterValue[]>>;
}

/**
 * Finds the items (such as viewers) for which a predicate is true of a row. Where the predicate says `column =
 * parameter`, it looks the row's value up: the cost of a row does not grow with the items that it does not match.
 */
export class ViewerIndex<T> {
  readonly #test: Test;
  readonly #all = new Map<T, readonly ParameterValue[]>();
  /** One index for each `equal` key; undefined: every item is tested against each row. */
  readonly #values: readonly ValueIndex<T>[] | undefined;
  readonly #rowTests: readonly Test[];
  readonly #viewerTests: readonly Test[];
  /** Items for which one of the viewer tests is true. */
  readonly #forAnyRow = new Map<T, readonly ParameterValue[]>();

  constructor(predicate: Predicate) {
    this.#test = testOf(predicate);
    const keys = lookupKeys(predicate);
    const tests = (kind: 'row' | 'viewer') =>
      (keys ?? []).flatMap((key) => (key.kind === kind ? [testOf(key.predicate)] : []));
    this.#values = keys?.flatMap((key) => (key.kind === 'equal' ? [{ key, byValue: new Map() }] : []));
    this.#rowTests = tests('row');
    this.#viewerTests = tests('viewer');
  }

  /** The indexes of the columns by which rows are looked up. */
  get columns(): readonly number[] {
    return (this.#values ?? []).map(({ key }) => key.column.columnIndex);
  }

  /** Whether rows are looked up and not tested against every item. */
  get isIndexed(): boolean {
    return this.#values !== undefined;
  }

  get size(): number {
    return this.#all.size;
  }

  add(item: T, parameters: readonly ParameterValue[]): void {
    this.#all.set(item, parameters);
    for (const { key, byValue } of this.#values ?? []) {
      for (const value of valuesOf(parameters[key.parameter])) {
        const others = byValue.get(value);
        if (others === undefined) byValue.set(value, new Map([[item, parameters]]));
        else others.set(item, parameters);
      }
    }
    const noRow = new TypedRow([]);
    if (this.#viewerTests.some((test) => isTrueOrUndecided(test(noRow, parameters))))
      this.#forAnyRow.set(item, parameters);
  }

  remove(item: T): void {
    const parameters = this.#all.get(item);
    if (parameters === undefined) return;
    this.#all.delete(item);
    this.#forAnyRow.delete(item);
    for (const { key, byValue } of this.#values ?? []) {
      for (const value of valuesOf(parameters[key.parameter])) {
        const others = byValue.get(value);
        others?.delete(item);
        if (others?.size === 0) byValue.delete(value);
      }
    }
  }

  /**
   * Returns the items for which the predicate is true, and reports those for which the row has no steps left to decide it.
   * The columns that it reads must be known in the row.
   */
  find(row: TypedRow, onUndecided: (item: T) => void): Iterable<T> {
    const isForAll = this.#rowTests.some((test) => isTrueOrUndecided(test(row, NO_PARAMETERS)));
    if (this.#values === undefined || isForAll) return this.#tested(row, [this.#all], onUndecided);
    const candidates: ReadonlyMap<T, readonly ParameterValue[]>[] = [];
    if (this.#forAnyRow.size > 0) candidates.push(this.#forAnyRow);
    for (const { key, byValue } of this.#values) {
      const { columnIndex, family, asText } = key.column;
      const value = asText ? row.text(columnIndex) : row.value(columnIndex, family);
      const found = value === null ? undefined : byValue.get(value);
      if (found !== undefined) candidates.push(found);
    }
    return this.#tested(row, candidates, onUndecided);
  }

  #tested(
    row: TypedRow,
    candidates: readonly ReadonlyMap<T, readonly ParameterValue[]>[],
    onUndecided: (item: T) => void,
  ): Iterable<T> {
    const found = new Set<T>();
    for (const some of candidates) {
      for (const [item, parameters] of some) {
        const truth = this.#test(row, parameters);
        if (truth === true) found.add(item);
        else if (truth === undefined) onUndecided(item);
      }
    }
    return found;
  }
}

function isTrueOrUndecided(truth: boolean | null | undefined): boolean {
  return truth === true || truth === undefined;
}

const NO_PARAMETERS: readonly ParameterValue[] = [];

function valuesOf(parameter: ParameterValue | undefined): Iterable<Value> {
  if (parameter === undefined || parameter === null) return [];
  if (typeof parameter !== 'object') return [parameter];
  return 'values' in parameter ? parameter.values : [];
}
