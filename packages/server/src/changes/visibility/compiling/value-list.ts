import type { Value } from './type-families.js';

/** A list of values that `= ANY` searches. */
export interface ValueList {
  readonly values: ReadonlySet<Value>;
  readonly hasNull: boolean;
  /** The number of NULLs. */
  readonly nulls?: number;
  /** The counts of values that are in it more than once. */
  readonly repeated?: ReadonlyMap<Value, number>;
}

/** Builds a list of values, which may include NULL. */
export function listOf(values: readonly (Value | null)[]): ValueList {
  const known = values.filter((value) => value !== null);
  const distinct = new Set(known);
  const nulls = values.length - known.length;
  const list = { values: distinct, hasNull: nulls > 0, nulls };
  if (distinct.size === known.length) return list;
  const repeated = new Map<Value, number>();
  for (const value of known) repeated.set(value, (repeated.get(value) ?? 0) + 1);
  for (const [value, count] of repeated) if (count === 1) repeated.delete(value);
  return { ...list, repeated };
}

/** Changes the list in place: adds the value once, or removes it once. */
export function changeList(list: ValueList, value: Value | null, by: 1 | -1): void {
  const own = list as { values: Set<Value>; hasNull: boolean; nulls?: number; repeated?: Map<Value, number> };
  if (value === null) {
    own.nulls = Math.max(0, (own.nulls ?? 0) + by);
    own.hasNull = own.nulls > 0;
    return;
  }
  const count = (own.repeated?.get(value) ?? Number(own.values.has(value))) + by;
  if (count > 0) own.values.add(value);
  else own.values.delete(value);
  own.repeated ??= new Map();
  if (count > 1) own.repeated.set(value, count);
  else own.repeated.delete(value);
}

/** Removes everything from the list, in place. */
export function emptyList(list: ValueList): void {
  Object.assign(list, { values: new Set(), hasNull: false, nulls: 0, repeated: new Map() });
}
