import type { LikePattern } from './like-pattern.js';
import type { Family, Value } from './type-families.js';
import type { TypedRow } from './typed-row.js';
import type { ValueList } from './value-list.js';

/** SQL's three truth values; null is unknown. */
type Truth = boolean | null;

/** The value of a parameter for one viewer: a value, a list of values, a LIKE pattern, or NULL. */
export type ParameterValue = Value | ValueList | LikePattern | null;

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

/** A LIKE pattern: of a parameter, or the same for all viewers. */
export type Pattern =
  | { readonly kind: 'parameter'; readonly parameter: number }
  | { readonly kind: 'constant'; readonly pattern: LikePattern | null };

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
  | { readonly kind: 'like'; readonly left: Operand; readonly pattern: Pattern }
  | { readonly kind: 'isNull'; readonly operand: Operand }
  | { readonly kind: 'is'; readonly part: Predicate; readonly truth: Truth }
  | { readonly kind: 'holds'; readonly operand: Operand };

/**
 * Evaluates a predicate. Returns undefined if the row has no steps left to decide it: then only PostgreSQL can evaluate it on
 * this row.
 */
export type Test = (row: TypedRow, parameters: readonly ParameterValue[]) => Truth | undefined;

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
        return typeof truth === 'boolean' ? !truth : truth;
      };
    }
    case 'compare':
      return comparison(predicate.operator, predicate.left, predicate.right);
    case 'distinct': {
      const [left, right] = [reader(predicate.left), reader(predicate.right)];
      return (row, parameters) => {
        const one = left(row, parameters);
        const other = right(row, parameters);
        if (one === null || other === null) return one !== other;
        return isAffordable(row, one, other) ? one !== other : undefined;
      };
    }
    case 'any':
      return membership(predicate.left, predicate.list);
    case 'like':
      return likeness(predicate.left, predicate.pattern);
    case 'isNull': {
      const read = reader(predicate.operand);
      return (row, parameters) => read(row, parameters) === null;
    }
    case 'is': {
      const part = testOf(predicate.part);
      return (row, parameters) => {
        const truth = part(row, parameters);
        return truth === undefined ? undefined : truth === predicate.truth;
      };
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

/** Tests AND or OR: `deciding` if any part is, otherwise undecided or unknown if any part is. */
function junction(parts: readonly Test[], deciding: boolean): Test {
  return (row, parameters) => {
    let result: Truth | undefined = !deciding;
    for (const part of parts) {
      const truth = part(row, parameters);
      if (truth === deciding) return deciding;
      if (truth === undefined) result = undefined;
      else if (truth === null && result !== undefined) result = null;
    }
    return result;
  };
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

/** A comparison of texts reads about this many characters in the time of a step. */
const CHARACTERS_PER_STEP = 32;

/** Takes the steps for a test of equality: texts of different lengths are not read. Returns false if too few are left. */
function isAffordable(row: TypedRow, one: Value, other: Value): boolean {
  if (typeof one !== 'string' || typeof other !== 'string' || one.length !== other.length) return true;
  return one.length < CHARACTERS_PER_STEP || row.take(Math.ceil(one.length / CHARACTERS_PER_STEP));
}

const ORDERS: Readonly<Record<Exclude<Comparison, '=' | '<>'>, (order: number) => boolean>> = {
  '<': (order) => order < 0,
  '<=': (order) => order <= 0,
  '>': (order) => order > 0,
  '>=': (order) => order >= 0,
};

function comparison(operator: Comparison, a: Operand, b: Operand): Test {
  if (operator === '=' || operator === '<>') return equality(operator === '=', a, b);
  const [left, right] = [reader(a), reader(b)];
  const { compare } = a.family;
  const decide = ORDERS[operator];
  return (row, parameters) => {
    const one = left(row, parameters);
    if (one === null) return null;
    const other = right(row, parameters);
    if (other === null) return null;
    return isOrderAffordable(row, one, other) ? decide(compare(one, other)) : undefined;
  };
}

/** As `isAffordable`, for a comparison by order, which reads numbers in any case. */
function isOrderAffordable(row: TypedRow, one: Value, other: Value): boolean {
  if (typeof one !== 'string' || typeof other !== 'string') return true;
  const characters = one.length + other.length;
  return characters < 2 * CHARACTERS_PER_STEP || row.take(Math.ceil(characters / CHARACTERS_PER_STEP));
}

/** Values of a family are equal as PostgreSQL says if they are the same text or the same number. */
function equality(isEqual: boolean, a: Operand, b: Operand): Test {
  const [left, right] = [reader(a), reader(b)];
  return (row, parameters) => {
    const one = left(row, parameters);
    if (one === null) return null;
    const other = right(row, parameters);
    if (other === null) return null;
    return isAffordable(row, one, other) ? (one === other) === isEqual : undefined;
  };
}

function likeness(operand: Operand, pattern: Pattern): Test {
  const read = reader(operand);
  const patternOf =
    pattern.kind === 'constant'
      ? () => pattern.pattern
      : (parameters: readonly ParameterValue[]) => parameters[pattern.parameter] as LikePattern | null;
  return (row, parameters) => {
    const text = read(row, parameters);
    const own = patternOf(parameters);
    return text === null || own === null ? null : own.matches(String(text), row.search);
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

function partsOf(predicate: Predicate): readonly (Operand | List | Pattern)[] {
  switch (predicate.kind) {
    case 'and':
    case 'or':
      return predicate.parts.flatMap(partsOf);
    case 'not':
    case 'is':
      return partsOf(predicate.part);
    case 'compare':
    case 'distinct':
      return [predicate.left, predicate.right];
    case 'like':
      return [predicate.left, predicate.pattern];
    case 'any':
      return [predicate.left, predicate.list];
    case 'isNull':
    case 'holds':
      return [predicate.operand];
  }
}
