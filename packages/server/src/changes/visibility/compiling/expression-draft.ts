import type { CompiledExpression, Membership, ParameterLeaf } from './compiled-expression.js';
import { isPattern } from './like-pattern.js';
import { NotCompilable } from './not-compilable.js';
import { type List, listOf, type Operand, type ParameterValue, type Predicate } from './predicate.js';
import type { Leaf, LeafAnswer } from './row-independent-leaf.js';
import { type Family, familyOf } from './type-families.js';

/** An expression whose leaves are known, but not yet their types. */
export interface Draft {
  readonly leaves: readonly Leaf[];
  /** Completes the expression; `answers`: one for each leaf. Throws NotCompilable. */
  finish(answers: readonly LeafAnswer[]): CompiledExpression;
}

type Answers = (leaf: number) => Operand | List;
/** A part of an expression that is built once the types of the leaves are known. */
export type Drafted<T> = (answers: Answers) => T;

/** The parts of a draft. */
export interface DraftParts {
  readonly leaves: readonly Leaf[];
  /** The indexes of leaves that are LIKE patterns. */
  readonly patterns: ReadonlySet<number>;
  /** The indexes of leaves that the expression works without, only slower. */
  readonly optional: ReadonlySet<number>;
  readonly memberships: readonly Drafted<Membership>[];
}

/** Longer lists are left to PostgreSQL. */
const MAX_LIST = 10_000;

/** Builds the expression once the types of its leaves are known. Throws NotCompilable. */
export function finishDraft(
  root: Drafted<Predicate>,
  parts: DraftParts,
  answers: readonly LeafAnswer[],
): CompiledExpression {
  const parameters: ParameterLeaf[] = [];
  const operands = parts.leaves.map((leaf, n) => {
    const answer = answers[n];
    if (answer === undefined) throw new Error('a leaf without an answer');
    if (answer.family === null) {
      if (parts.optional.has(n)) return undefined;
      throw new NotCompilable('it compares values of a type that only PostgreSQL compares');
    }
    const family = familyOf(answer.family);
    const isPatternLeaf = parts.patterns.has(n);
    const read = (text: LeafAnswer['value']) => parameterOf(text, family, isPatternLeaf);
    if (leaf.isConstant) {
      const value = read(answer.value);
      if (leaf.isList) return { kind: 'constants', list: value, family } as List & { family: Family };
      return { kind: 'constant', value, family } as Operand;
    }
    parameters.push({ leaf, read });
    return { kind: 'parameter', parameter: parameters.length - 1, family } as Operand | List;
  });
  const answer = (leaf: number) => {
    const operand = operands[leaf];
    if (operand === undefined)
      throw new NotCompilable('it compares values of a type that only PostgreSQL compares');
    return operand;
  };
  const predicate = root(answer);
  return { predicate, parameters, memberships: parts.memberships.map((membership) => membership(answer)) };
}

function parameterOf(text: LeafAnswer['value'], family: Family, isPatternLeaf: boolean): ParameterValue {
  if (text === null) return null;
  if (typeof text !== 'string') {
    if (text.length > MAX_LIST) throw new NotCompilable('a list is too long');
    return listOf(text.map((one) => (one === null ? null : family.parse(one))));
  }
  if (isPatternLeaf && !isPattern(text)) throw new NotCompilable('a pattern ends in the middle of an escape');
  return family.parse(text);
}
