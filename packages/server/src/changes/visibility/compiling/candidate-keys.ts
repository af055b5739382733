import { dependsOn, type Operand, type Predicate } from './predicate.js';

/**
 * One way in which a predicate can be true. `equal`: the column has the value of the slot, or one of its values;
 * of the context, whatever the row.
 */
export type CandidateKey =
  | { readonly kind: 'equal'; readonly column: Column; readonly parameter: number }
  | { readonly kind: 'row' | 'viewer'; readonly predicate: Predicate };

export type Column = Operand & { readonly kind: 'column' };

/**
 * The ways in which the predicate can be true, such that it is true in no other: whoever has none of them need not be
 * looked at. Undefined: everybody has to be.
 */
export function candidateKeys(predicate: Predicate): readonly CandidateKey[] | undefined {
  const depends = dependsOn(predicate);
  if (!depends.viewer) return [{ kind: 'row', predicate }];
  if (!depends.row) return [{ kind: 'viewer', predicate }];
  switch (predicate.kind) {
    case 'and':
      return cheapest(predicate.parts.map(candidateKeys));
    case 'or': {
      const ways = predicate.parts.map(candidateKeys);
      return ways.every((way) => way !== undefined) ? ways.flat() : undefined;
    }
    case 'is':
      return predicate.truth === true ? candidateKeys(predicate.part) : undefined;
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

function equality(a: Operand, b: Operand): readonly CandidateKey[] | undefined {
  if (a.kind !== 'column' || b.kind !== 'parameter') return undefined;
  return [{ kind: 'equal', column: a, parameter: b.parameter }];
}

/** Of the parts of an AND one is enough: the one that leaves the fewest. What is about the row alone leaves everybody. */
function cheapest(
  ways: readonly (readonly CandidateKey[] | undefined)[],
): readonly CandidateKey[] | undefined {
  const useful = ways.filter((way) => way?.some(({ kind }) => kind !== 'row'));
  return useful.toSorted((a, b) => cost(a) - cost(b))[0];
}

function cost(way: readonly CandidateKey[] | undefined): number {
  return (way ?? []).reduce((sum, { kind }) => sum + (kind === 'equal' ? 1 : 100), 0);
}

/** For a predicate that is the same for everybody: a column that must have one of these values for it to be true. */
export interface ValueKey {
  readonly column: Column;
  readonly values: readonly (string | bigint)[];
}

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
