import type { Leaf, LeafAnswer } from './leaf.js';
import type { ParameterValue, Predicate } from './predicate.js';
import type { Family } from './typed-values.js';

/** A leaf that differs by context, and how its value is read. */
export interface ParameterLeaf {
  readonly leaf: Leaf;
  /** Of the text that PostgreSQL made of it. Throws NotExact for one that it would not take. */
  readonly read: (text: LeafAnswer['value']) => ParameterValue;
}

export interface CompiledExpression {
  readonly predicate: Predicate;
  readonly parameters: readonly ParameterLeaf[];
  /** What slots are lists from. */
  readonly memberships: readonly Membership[];
}

/** A table that a slot's list comes from: the list is another one when that table changes. */
export interface Membership {
  readonly oid: number;
  /** Over a row of that table: for whom the list is another one when the row comes or goes; undefined: for everybody. */
  readonly concerns: Predicate | undefined;
  /** Which rows of the table are in the list; undefined: that cannot be told from each row alone. */
  readonly entry: ListEntry | undefined;
}

/** The rows of a table that are in a list, each with the value of a column. */
export interface ListEntry {
  /** The slot that holds the list. */
  readonly parameter: number;
  /** Over a row of the table. */
  readonly predicate: Predicate;
  readonly columnIndex: number;
  readonly family: Family;
}

/** An expression that is evaluated in process, or why only PostgreSQL can: the end of a sentence about it. */
export type Compilation = Compiled | { readonly reason: string };

export interface Compiled {
  readonly compiled: CompiledExpression;
}
