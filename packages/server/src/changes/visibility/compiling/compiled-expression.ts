import type { ParameterValue, Predicate } from './predicate.js';
import type { Leaf, LeafAnswer } from './row-independent-leaf.js';
import type { Family } from './type-families.js';

/** A leaf whose value differs by viewer, and how to read that value. */
export interface ParameterLeaf {
  readonly leaf: Leaf;
  /** Parses the text that PostgreSQL returned. Throws NotCompilable if the value is not supported in process. */
  readonly read: (text: LeafAnswer['value']) => ParameterValue;
}

export interface CompiledExpression {
  readonly predicate: Predicate;
  readonly parameters: readonly ParameterLeaf[];
  /** The tables that the lists of parameters are read from. */
  readonly memberships: readonly Membership[];
}

/** A table that a parameter's list is read from. The list can change when the table changes. */
export interface Membership {
  readonly oid: number;
  /**
   * A predicate over a row of the table: true for viewers whose list can change when the row is added or removed.
   * Undefined: all viewers.
   */
  readonly concerns: Predicate | undefined;
  /** Which rows of the table are in the list; undefined if a row alone does not decide it. */
  readonly entry: ListEntry | undefined;
}

/** Says which rows of a table are in a list, each with the value of one column. */
export interface ListEntry {
  /** The parameter that holds the list. */
  readonly parameter: number;
  /** A predicate over a row of the table: true if it is in the list. */
  readonly predicate: Predicate;
  readonly columnIndex: number;
  readonly family: Family;
}

/**
 * An expression that is evaluated in process, or the reason why only PostgreSQL can evaluate it: a clause such as `it has
 * the operator ~`.
 */
export type Compilation = Compiled | { readonly reason: string };

export interface Compiled {
  readonly compiled: CompiledExpression;
}
