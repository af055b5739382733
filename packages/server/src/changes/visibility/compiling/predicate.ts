import type { RowImage } from '../../model/row-image.js';
import { isLike } from './like-pattern.js';
import type { Family, Value } from './type-families.js';

/** SQL's three truth values; null is unknown. */
type Truth = boolean | null;

/** A list of values that `= ANY` searches. */
export interface ValueList {
  readonly values: ReadonlySet<Value>;
  readonly hasNull: boolean;
  /** The number of NULLs. */
  readonly nulls?: number;
  /** The counts of values that are in it more than once. */
  readonly repeated?: ReadonlyMap<Value, number>;
}

/** The value of a parameter for one viewer: a value, a list of values, or NULL. */
export type ParameterValue = Value | ValueList | null;

/** An operand: a column of the row, a parameter (the same for all rows, differs by viewer), or a constant. */
export type Operand =
  | {
      readonly kind: 'column';
      readonly columnIndex: number;
      readonly family: Family;
      /** Whether the column is cast to text, so that its text is the value. */
      readonly asText?: true;
    }
  | { readonly kind: 'parameter'; readonly parameter: number; readonly family: Family }
  | { readonly kind: 'constant'; readonly value: Value | null; readonly family: Family };

/** Several values: of a parameter, or the same for all viewers. */
export type List =
  | { readonly kind: 'parameter'; readonly parameter: number }
  | { readonly kind: 'constants'; readonly list: ValueList | null };

export type Comparison = '=' | '<>' | '<' | '<=' | '>' | '>=';

/** A boolean expression that is evaluated in process with the same result as in PostgreSQL. */
export type Predicate =
  | { readonly kind: 'and' | 'or'; readonly parts: readonly Predicate[] }
  | { readonly kind: 'not'; readonly part: Predicate }
  | {
      readonly kind: 'compare';
      readonly operator: Comparison;
      readonly left: Operand;
      readonly right: Operand;
    }
  | { readonly kind: 'distinct'; readonly left: Operand; readonly right: Operand }
  | { readonly kind: 'any'; readonly left: Operand; readonly list: List }
  | { readonly kind: 'like'; readonly left: Operand; readonly right: Operand }
  | { readonly kind: 'isNull'; readonly operand: Operand }
  | { readonly kind: 'is'; readonly part: Predicate; readonly truth: Truth }
  | { readonly kind: 'holds'; readonly operand: Operand };

export type Test = (row: TypedRow, parameters: readonly ParameterValue[]) => Truth;

/** A row whose values are parsed once, however often they are compared. */
export class TypedRow {
  readonly #image: RowImage;
  readonly #values: (Value | null | undefined)[] = [];

  constructor(image: RowImage) {
    this.#image = image;
  }

  text(columnIndex: number): string | null {
    const text = this.#image[columnIndex];
    if (text === undefined) throw new Error('the value of the column is not known');
    return text;
  }

  value(columnIndex: number, family: Family): Value | null {
    let value = this.#values[columnIndex];
    if (value === undefined) {
      const text = this.text(columnIndex);
      value = text === null ? null : family.parse(text);
      this.#values[columnIndex] = value;
    }
    return value;
  }
}

const TRUE = 't';

/** Compiles a predicate to a function. All decisions about its shape are made here, not in each call. */
export function testOf(predicate: Predicate): Test {
  switch (predicate.kind) {
    case 'and':
      return junction(predicate.parts.map(testOf), false);
    case 'or':
      return junction(predicate.parts.map(testOf), true);
    case 'not': {
      const part = testOf(predicate.part);
      return (row, parameters) => {
        const truth = part(row, parameters);
        return truth === null ? null : !truth;
      };
    }
    case 'compare':
      return comparison(predicate.operator, predicate.left, predicate.right);
    case 'distinct': {
      const [left, right] = [reader(predicate.left), reader(predicate.right)];
      return (row, parameters) => left(row, parameters) !== right(row, parameters);
    }
    case 'any':
      return membership(predicate.left, predicate.list);
    case 'like': {
      const [left, right] = [reader(predicate.left), reader(predicate.right)];
      return (row, parameters) => {
        const text = left(row, parameters);
        const pattern = right(row, parameters);
        return text === null || pattern === null ? null : isLike(String(text), String(pattern));
      };
    }
    case 'isNull': {
      const read = reader(predicate.operand);
      return (row, parameters) => read(row, parameters) === null;
    }
    case 'is': {
      const part = testOf(predicate.part);
      return (row, parameters) => part(row, parameters) === predicate.truth;
    }
    case 'holds': {
      const read = reader(predicate.operand);
      return (row, parameters) => {
        const value = read(row, parameters);
        return value === null ? null : value === TRUE;
      };
    }
  }
}

/** Tests AND or OR: `deciding` if any part is, otherwise unknown if any part is. */
function junction(parts: readonly Test[], deciding: boolean): Test {
  return (row, parameters) => {
    let result: Truth = !deciding;
    for (const part of parts) {
      const truth = part(row, parameters);
      if (truth === deciding) return deciding;
      if (truth === null) result = null;
    }
    return result;
  };
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

function reader(operand: Operand): (row: TypedRow, parameters: readonly ParameterValue[]) => Value | null {
  switch (operand.kind) {
    case 'column': {
      const { columnIndex, family, asText } = operand;
      return asText ? (row) => row.text(columnIndex) : (row) => row.value(columnIndex, family);
    }
    case 'parameter':
      return (_, parameters) => parameters[operand.parameter] as Value | null;
    case 'constant':
      return () => operand.value;
  }
}

const DECISIONS: Readonly<Record<Comparison, (order: number) => boolean>> = {
  '=': (order) => order === 0,
  '<>': (order) => order !== 0,
  '<': (order) => order < 0,
  '<=': (order) => order <= 0,
  '>': (order) => order > 0,
  '>=': (order) => order >= 0,
};

function comparison(operator: Comparison, a: Operand, b: Operand): Test {
  const [left, right] = [reader(a), reader(b)];
  const { compare } = a.family;
  const decide = DECISIONS[operator];
  return (row, parameters) => {
    const one = left(row, parameters);
    if (one === null) return null;
    const other = right(row, parameters);
    return other === null ? null : decide(compare(one, other));
  };
}

function membership(operand: Operand, list: List): Test {
  const read = reader(operand);
  const isParameter = list.kind === 'parameter';
  return (row, parameters) => {
    const members = isParameter ? (parameters[list.parameter] as ValueList | null) : list.list;
    if (members === null) return null;
    const { values, hasNull } = members;
    const value = read(row, parameters);
    // Nothing is a member of an empty list, not even NULL: the result is false and not unknown.
    if (values.size === 0 && !hasNull) return false;
    if (value === null) return null;
    return values.has(value) ? true : hasNull ? null : false;
  };
}

/** Returns whether the predicate depends on the row, and whether it depends on the viewer. */
export function dependsOn(predicate: Predicate): { readonly row: boolean; readonly viewer: boolean } {
  const parts = partsOf(predicate);
  return {
    row: parts.some((part) => part.kind === 'column'),
    viewer: parts.some((part) => part.kind === 'parameter'),
  };
}

function partsOf(predicate: Predicate): readonly (Operand | List)[] {
  switch (predicate.kind) {
    case 'and':
    case 'or':
      return predicate.parts.flatMap(partsOf);
    case 'not':
    case 'is':
      return partsOf(predicate.part);
    case 'compare':
    case 'distinct':
    case 'like':
      return [predicate.left, predicate.right];
    case 'any':
      return [predicate.left, predicate.list];
    case 'isNull':
    case 'holds':
      return [predicate.operand];
  }
}
