import { asList, asNode } from '../../expressions/expression-printer.js';
import type { Node } from '../../expressions/parse-expression.js';

/** An expression, or a list of them, that is the same for all rows: PostgreSQL evaluates it, once. */
export interface Leaf {
  readonly sql: string;
  readonly isList: boolean;
  /** The same for all contexts as well. */
  readonly isConstant: boolean;
  /** Where it needs no PostgreSQL to tell. */
  readonly answer?: LeafAnswer;
}

/** What PostgreSQL says of a leaf. */
export interface LeafAnswer {
  /** Of the type, or of a list's elements; null: none that is exact here. */
  readonly family: string | null;
  /** Of a constant; null: NULL. */
  readonly value: string | readonly (string | null)[] | null;
}

/** Types of the family of texts. */
export const TEXT_TYPES: ReadonlySet<string> = new Set(['text', 'varchar']);
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The value of a number, a text or a UUID that stands there as PostgreSQL would print it. */
export function plainAnswer(tree: Node, type: string | undefined): LeafAnswer | undefined {
  const cast = asNode(tree.TypeCast);
  const { typmods, arrayBounds, names } = asNode(cast.typeName);
  const isPlain = typmods === undefined && arrayBounds === undefined;
  const castTo = isPlain ? asNode(asNode(asList(names).at(-1)).String).sval : undefined;
  const constant = asNode(asNode(cast.arg ?? tree).A_Const);
  // An empty object stands for zero, and for the empty text.
  const number = constant.ival === undefined ? undefined : (asNode(constant.ival).ival ?? 0);
  const value = constant.sval === undefined ? undefined : (asNode(constant.sval).sval ?? '');
  if (typeof number === 'number' && cast.arg === undefined)
    return { family: 'number', value: String(number) };
  if (typeof value !== 'string') return undefined;
  const as = cast.arg === undefined ? type?.replace('pg_catalog.', '') : String(castTo);
  if (as !== undefined && TEXT_TYPES.has(as)) return { family: 'text', value };
  return as === 'uuid' && UUID.test(value) ? { family: 'uuid', value } : undefined;
}
