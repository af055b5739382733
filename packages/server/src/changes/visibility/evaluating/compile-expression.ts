import type { Sql } from '../../../postgres/sql/sql.js';
import { asList, asNode } from '../../expressions/expression-printer.js';
import { loadParser, type Node, parsePrinted } from '../../expressions/parse-expression.js';
import type { TableFacts } from '../../model/table-facts.js';
import type { Compilation } from '../compiling/compiled-expression.js';
import { draftOf } from '../compiling/expression-drafter.js';
import { NotCompilable } from '../compiling/not-compilable.js';
import type { Leaf, LeafAnswer } from '../compiling/row-independent-leaf.js';
import { familySql } from '../compiling/type-families.js';
import {
  type KnownNames,
  type MembershipTable,
  ViewerExpressionPrinter,
} from '../compiling/viewer-expression-printer.js';

/**
 * A longer constant is left to PostgreSQL. A short expression can have a long one: `1e131000` has 131,001 digits, which each
 * use of it would keep.
 */
const MAX_CONSTANT_BYTES = 16_384;
/** How deep calls of functions by functions are followed. */
const MAX_CALLS_DEEP = 5;

/**
 * Returns the table of a sub-select, or why it cannot be evaluated in process: the end of a sentence about
 * it.
 */
export type MembershipTables = (schema: string, name: string) => Promise<MembershipTable | string>;

/** Compiles an expression over a table's row, in the form of `pg_get_expr` or of our own printer. */
export async function compileExpression(
  sql: Sql,
  table: TableFacts,
  expression: string,
  membershipTables: MembershipTables,
): Promise<Compilation> {
  try {
    await loadParser();
    const tree = parsePrinted(expression);
    const draft = draftOf(tree, table, await knownNames(sql, tree, membershipTables));
    return { compiled: draft.finish(await answersFor(sql, draft.leaves)) };
  } catch (error) {
    if (error instanceof NotCompilable) return { reason: error.message };
    if (error instanceof Error && error.name === 'ProtocolError')
      return { reason: 'it has an expression that only PostgreSQL evaluates' };
    throw error;
  }
}

async function answersFor(sql: Sql, leaves: readonly Leaf[]): Promise<readonly LeafAnswer[]> {
  const asked = leaves.filter(({ answer }) => answer === undefined);
  const answers = asked.length === 0 ? [] : await answersOfPostgres(sql, asked);
  return leaves.flatMap((leaf) => leaf.answer ?? answers[asked.indexOf(leaf)] ?? []);
}

async function answersOfPostgres(sql: Sql, leaves: readonly Leaf[]): Promise<readonly LeafAnswer[]> {
  const texts = leaves.map(({ sql: text, isList, isConstant }) => {
    // A sub-select without rows gives the type of its expression without evaluating it.
    const type = `(SELECT pg_catalog.pg_typeof((SELECT ${text} WHERE false))::oid)`;
    const own = isList ? `(SELECT typelem FROM pg_catalog.pg_type WHERE oid = ${type})` : type;
    const isTooLong = isConstant
      ? `pg_catalog.octet_length((${text})::text) > ${MAX_CONSTANT_BYTES}`
      : 'false';
    const value = isConstant
      ? `CASE WHEN ${isTooLong} THEN NULL ELSE ${jsonOf({ sql: text, isList })} END`
      : 'NULL';
    return `pg_catalog.json_build_object('family', ${familySql(own)}, 'value', ${value}, 'isTooLong', ${isTooLong})`;
  });
  try {
    const [row] = await sql.query<{ answers: LeafAnswer[] }>(
      `SELECT pg_catalog.json_build_array(${texts.join(', ')}) AS answers`,
    );
    return row?.answers ?? [];
  } catch (error) {
    if (isExpressionError(error))
      throw new NotCompilable('what it compares with cannot be evaluated in advance');
    throw error;
  }
}

/** SQL for a leaf's value as JSON: texts, in PostgreSQL's output format. */
export function jsonOf({ sql, isList }: Pick<Leaf, 'sql' | 'isList'>): string {
  return isList ? `pg_catalog.to_json((${sql})::text[])` : `pg_catalog.to_json((${sql})::text)`;
}

/** Whether the expression raised the error, and not the connection, the server or its resources. */
function isExpressionError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && !/^(?:08|53|57|58|XX)/.test(String(error.code));
}

const NO_NAMES: KnownNames = { functions: new Set(), enums: new Set(), tables: new Map() };

/**
 * Finds which functions, enums and tables named in an expression have a value or content that is known per
 * viewer.
 */
async function knownNames(sql: Sql, tree: Node, membershipTables: MembershipTables): Promise<KnownNames> {
  const named = namesIn(tree);
  if (named.functions.length + named.types.length + named.tables.length === 0) return NO_NAMES;
  const tables = new Map<string, MembershipTable | string>();
  for (const [schema, name] of named.tables)
    tables.set(`${schema}.${name}`, await membershipTables(schema, name));
  const enums = await sql.query<{ name: string }>(
    `SELECT named.name FROM unnest($1::text[]) AS named(name)
     JOIN pg_catalog.pg_type t ON t.oid = pg_catalog.to_regtype(named.name) AND t.typtype = 'e'`,
    [named.types],
  );
  const functions = new Set<string>();
  await addViewerFunctions(sql, named.functions, functions, 0);
  return { functions, enums: new Set(enums.map(({ name }) => name)), tables };
}

/**
 * Adds functions whose value depends on the viewer alone, by their definition: an expression of settings,
 * constants and such functions.
 */
async function addViewerFunctions(
  sql: Sql,
  names: readonly string[],
  known: Set<string>,
  depth: number,
): Promise<void> {
  if (names.length === 0 || depth > MAX_CALLS_DEEP) return;
  const rows = await sql.query<{ name: string; body: string }>(
    `SELECT named.name, p.prosrc AS body FROM unnest($1::text[]) AS named(name)
     JOIN pg_catalog.pg_proc p ON p.oid = pg_catalog.to_regprocedure(named.name || '()')
     JOIN pg_catalog.pg_language l ON l.oid = p.prolang
     WHERE l.lanname = 'sql' AND p.prokind = 'f' AND NOT p.proretset AND p.proconfig IS NULL AND p.prosqlbody IS NULL
       AND p.pronamespace <> 'pg_catalog'::regnamespace`,
    [names],
  );
  for (const { name, body } of rows) {
    try {
      const tree = parsePrinted(
        body
          .trim()
          .replace(/^select\s/i, '')
          .replace(/;\s*$/, ''),
      );
      const inner = namesIn(tree).functions.filter((other) => !known.has(other));
      await addViewerFunctions(sql, inner, known, depth + 1);
      new ViewerExpressionPrinter({ ...NO_NAMES, functions: known }).print(tree);
      known.add(name);
    } catch (error) {
      if (!(error instanceof NotCompilable) && !(error instanceof Error && error.name === 'ProtocolError'))
        throw error;
    }
  }
}

function namesIn(tree: unknown): {
  readonly functions: string[];
  readonly types: string[];
  readonly tables: readonly (readonly [schema: string, name: string])[];
} {
  const functions = new Set<string>();
  const types = new Set<string>();
  const tables: [string, string][] = [];
  const visit = (node: unknown): void => {
    if (Array.isArray(node)) for (const part of node) visit(part);
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return;
    const { FuncCall, TypeCast, RangeVar } = node as Node;
    const { schemaname, relname } = asNode(RangeVar);
    if (typeof schemaname === 'string' && typeof relname === 'string') tables.push([schemaname, relname]);
    if (FuncCall !== undefined) functions.add(nameOf(asNode(FuncCall).funcname));
    const type = TypeCast === undefined ? '' : nameOf(asNode(asNode(TypeCast).typeName).names);
    if (type.includes('.') && !type.startsWith('pg_catalog.')) types.add(type);
    for (const part of Object.values(node)) visit(part);
  };
  visit(tree);
  return { functions: [...functions], types: [...types], tables };
}

/** The parts of a name, joined by dots. */
function nameOf(parts: unknown): string {
  return asList(parts)
    .map((part) => String(asNode(asNode(part).String).sval))
    .join('.');
}
