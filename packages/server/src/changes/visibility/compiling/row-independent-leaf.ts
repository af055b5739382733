import { asList, asNode } from '../../expressions/expression-printer.js';
import type { Node } from '../../expressions/parse-expression.js';

/** An expression, or a list of values, that is the same for all rows. PostgreSQL evaluates it once. */
export interface Leaf {
  readonly sql: string;
  readonly isList: boolean;
  /** Whether it is the same for all viewers too. */
  readonly isConstant: boolean;
  /** Set if it is known without PostgreSQL. */
  readonly answer?: LeafAnswer;
}

/** The type and value of a leaf, from PostgreSQL. */
export interface LeafAnswer {
  /** The family of its type, or of a list's elements; null: values that only PostgreSQL compares. */
  readonly family: string | null;
  /** The value of a constant; null: NULL. */
  readonly value: string | readonly (string | null)[] | null;
  /** Whether the value of a constant is too long to be kept here; the value is then missing. */
  readonly isTooLong?: boolean;
}

/** Says whether each character of the database is one code point: not in SQL_ASCII, whose characters are bytes. */
export const HAS_OUR_CHARACTERS: Leaf = {
  sql: `(pg_catalog.getdatabaseencoding() = 'UTF8' OR (pg_catalog.getdatabaseencoding() <> 'SQL_ASCII' AND
    pg_catalog.pg_encoding_max_length(pg_catalog.pg_char_to_encoding(pg_catalog.getdatabaseencoding())) = 1))`,
  isList: false,
  isConstant: true,
};

/** The types of the text family. */
export const TEXT_TYPES: ReadonlySet<string> = new Set(['text', 'varchar']);
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Returns the answer for a literal number, text or UUID that is written as PostgreSQL prints it. */
export function plainAnswer(tree: Node, type: string | undefined): LeafAnswer | undefined {
  const cast = asNode(tree.TypeCast);
  const { typmods, arrayBounds, names } = asNode(cast.typeName);
  const isPlain = typmods === undefined && arrayBounds === undefined;
  const castTo = isPlain ? asNode(asNode(asList(names).at(-1)).String).sval : undefined;
  const constant = asNode(asNode(cast.arg ?? tree).A_Const);
  // The parser writes an empty object for zero and for the empty text.
  const number = constant.ival === undefined ? undefined : (asNode(constant.ival).ival ?? 0);
  const value = constant.sval === undefined ? undefined : (asNode(constant.sval).sval ?? '');
  if (typeof number === 'number' && cast.arg === undefined)
    return { family: 'number', value: String(number) };
  if (typeof value !== 'string') return undefined;
  const as = cast.arg === undefined ? type?.replace('pg_catalog.', '') : String(castTo);
  if (as !== undefined && TEXT_TYPES.has(as)) return { family: 'text', value };
  return as === 'uuid' && UUID.test(value) ? { family: 'uuid', value } : undefined;
}
