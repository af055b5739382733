import { dependsOn, type Operand, type Predicate } from './predicate.js';

/**
 * One way in which a predicate can be true. `equal`: the column has the value of the parameter, or one of its values.
 * `row`: a predicate over the row alone is true. `viewer`: a predicate over the viewer alone is true, for any row.
 */
export type LookupKey =
  | { readonly kind: 'equal'; readonly column: Column; readonly parameter: number }
  | { readonly kind: 'row' | 'viewer'; readonly predicate: Predicate };

export type Column = Operand & { readonly kind: 'column' };

/**
 * Returns all ways in which the predicate can be true. Viewers to whom none of them applies need not be tested.
 * Undefined: every viewer must be tested.
 */
export function lookupKeys(predicate: Predicate): readonly LookupKey[] | undefined {
  const depends = dependsOn(predicate);
  if (!depends.viewer) return [{ kind: 'row', predicate }];
  if (!depends.row) return [{ kind: 'viewer', predicate }];
  switch (predicate.kind) {
    case 'and':
      return cheapest(predicate.parts.map(lookupKeys));
    case 'or': {
      const ways = predicate.parts.map(lookupKeys);
      return ways.every((way) => way !== undefined) ? ways.flat() : undefined;
    }
    case 'is':
      return predicate.truth === true ? lookupKeys(predicate.part) : undefined;
    case 'compare': {
      const { operator, left, right } = predicate;
      if (operator !== '=') return undefined;
      return equality(left, right) ?? equality(right, left);
    }
    case 'any': {
      const { left, list } = predicate;
      if (left.kind !== 'column' || list.kind !== 'parameter') return undefined;
      return [{ kind: 'equal', column: left, parameter: list.parameter }];
    }
    case 'not':
    case 'distinct':
    case 'like':
    case 'isNull':
    case 'holds':
      return undefined;
  }
}

function equality(a: Operand, b: Operand): readonly LookupKey[] | undefined {
  if (a.kind !== 'column' || b.kind !== 'parameter') return undefined;
  return [{ kind: 'equal', column: a, parameter: b.parameter }];
}

/**
 * Chooses one part of an AND, since all parts must be true: the one that leaves the fewest viewers. A part about the row
 * alone leaves all viewers.
 */
function cheapest(ways: readonly (readonly LookupKey[] | undefined)[]): readonly LookupKey[] | undefined {
  const useful = ways.filter((way) => way?.some(({ kind }) => kind !== 'row'));
  return useful.toSorted((a, b) => cost(a) - cost(b))[0];
}

function cost(way: readonly LookupKey[] | undefined): number {
  return (way ?? []).reduce((sum, { kind }) => sum + (kind === 'equal' ? 1 : 100), 0);
}

/** A column that must have one of these values for a predicate to be true that is the same for all viewers. */
export interface ValueKey {
  readonly column: Column;
  readonly values: readonly (string | bigint)[];
}

/** Returns a value key of the predicate; undefined if no column is compared with constants. */
export function valueKey(predicate: Predicate): ValueKey | undefined {
  switch (predicate.kind) {
    case 'and':
      for (const part of predicate.parts) {
        const key = valueKey(part);
        if (key !== undefined) return key;
      }
      return undefined;
    case 'compare': {
      const { operator, left, right } = predicate;
      if (operator !== '=') return undefined;
      return constantEquality(left, right) ?? constantEquality(right, left);
    }
    case 'any': {
      const { left, list } = predicate;
      if (left.kind !== 'column' || list.kind !== 'constants') return undefined;
      return { column: left, values: [...(list.list?.values ?? [])] };
    }
    case 'or':
    case 'not':
    case 'distinct':
    case 'like':
    case 'isNull':
    case 'is':
    case 'holds':
      return undefined;
  }
}

function constantEquality(a: Operand, b: Operand): ValueKey | undefined {
  if (a.kind !== 'column' || b.kind !== 'constant') return undefined;
  return { column: a, values: b.value === null ? [] : [b.value] };
}
