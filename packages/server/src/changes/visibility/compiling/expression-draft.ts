import type { CompiledExpression, Membership, ParameterLeaf } from './compiled-expression.js';
import { LikePattern } from './like-pattern.js';
import { NotCompilable } from './not-compilable.js';
import type { List, Operand, ParameterValue, Pattern, Predicate } from './predicate.js';
import { HAS_OUR_CHARACTERS, type Leaf, type LeafAnswer } from './row-independent-leaf.js';
import { type Family, familyOf } from './type-families.js';
import { listOf } from './value-list.js';

/** An expression whose leaves are known, but not yet their types. */
export interface Draft {
  readonly leaves: readonly Leaf[];
  /** Completes the expression; `answers`: one for each leaf. Throws NotCompilable. */
  finish(answers: readonly LeafAnswer[]): CompiledExpression;
}

type Answers = (leaf: number) => Operand | List | Pattern;
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
/** How long all constants of an expression together may be, in characters: they are kept as long as it is used. */
const MAX_CONSTANTS = 65_536;

/** Builds the expression once the types of its leaves are known. Throws NotCompilable. */
export function finishDraft(
  root: Drafted<Predicate>,
  parts: DraftParts,
  answers: readonly LeafAnswer[],
): CompiledExpression {
  if (answers.reduce((sum, { value }) => sum + lengthOf(value), 0) > MAX_CONSTANTS)
    throw new NotCompilable('its constants are too long');
  const hasOurCharacters = answers[parts.leaves.indexOf(HAS_OUR_CHARACTERS)]?.value !== 'false';
  const parameters: ParameterLeaf[] = [];
  const operands = parts.leaves.map((leaf, n) => {
    const answer = answers[n];
    if (answer === undefined) throw new Error('a leaf without an answer');
    const { family: name, isTooLong } = answer;
    if (name === null || isTooLong === true) {
      if (parts.optional.has(n)) return undefined;
      throw new NotCompilable(name === null ? OTHER_TYPE : 'its constants are too long');
    }
    const family = familyOf(name);
    const isPattern = parts.patterns.has(n);
    const read = isPattern
      ? (text: LeafAnswer['value']) => patternOf(text, hasOurCharacters)
      : (text: LeafAnswer['value']) => parameterOf(text, family);
    if (leaf.isConstant) {
      const value = read(answer.value);
      if (isPattern) return { kind: 'constant', pattern: value, family } as Pattern & { family: Family };
      if (leaf.isList) return { kind: 'constants', list: value, family } as List & { family: Family };
      return { kind: 'constant', value, family } as Operand;
    }
    parameters.push({ leaf, read });
    return { kind: 'parameter', parameter: parameters.length - 1, family } as Operand | List | Pattern;
  });
  const answer = (leaf: number) => {
    const operand = operands[leaf];
    if (operand === undefined) throw new NotCompilable(OTHER_TYPE);
    return operand;
  };
  const predicate = root(answer);
  return { predicate, parameters, memberships: parts.memberships.map((membership) => membership(answer)) };
}

const OTHER_TYPE = 'it compares values of a type that only PostgreSQL compares';

function parameterOf(text: LeafAnswer['value'], family: Family): ParameterValue {
  if (text === null) return null;
  if (typeof text === 'string') return family.parse(text);
  if (text.length > MAX_LIST) throw new NotCompilable('a list is too long');
  return listOf(text.map((one) => (one === null ? null : family.parse(one))));
}

/** `hasOurCharacters`: whether `_` stands for the same characters here as in the database. */
function patternOf(text: LeafAnswer['value'], hasOurCharacters: boolean): ParameterValue {
  if (text === null) return null;
  const pattern = LikePattern.of(String(text));
  if (pattern === undefined) throw new NotCompilable('a pattern ends in the middle of an escape');
  if (pattern.hasAnyCharacter && !hasOurCharacters)
    throw new NotCompilable('a pattern has _ in a database whose encoding has other characters');
  return pattern;
}

function lengthOf(value: LeafAnswer['value']): number {
  if (value === null) return 0;
  if (typeof value === 'string') return value.length;
  return value.reduce((sum, one) => sum + (one?.length ?? 0), 0);
}
