import { asList, asNode, namesOf } from './expression-printer.js';
import type { Node } from './parse-expression.js';

/** Calls `visit` with the kind and the content of each node of a tree, outer nodes first, until it returns false. */
export function visitNodes(tree: unknown, visit: (kind: string, node: Node) => boolean): void {
  if (Array.isArray(tree)) for (const part of tree) visitNodes(part, visit);
  if (typeof tree !== 'object' || tree === null || Array.isArray(tree)) return;
  for (const [key, value] of Object.entries(tree)) if (visit(key, asNode(value))) visitNodes(value, visit);
}

/** Returns the names of the columns that a tree reads, as often as it reads them. */
export function columnsIn(tree: unknown): string[] {
  const names: string[] = [];
  visitNodes(tree, (kind, node) => {
    if (kind === 'ColumnRef') names.push(...namesOf(node.fields));
    return true;
  });
  return names;
}

/** Returns the literals in a tree as texts; of a LIKE pattern with an escape character of its own, that with a backslash. */
export function literalsIn(tree: unknown): string[] {
  const texts: string[] = [];
  visitNodes(tree, (kind, node) => {
    if (kind === 'A_Const') texts.push(literalText(node));
    if (kind !== 'FuncCall' || !isEscape(node)) return true;
    const [pattern = '', sign] = asList(node.args).flatMap(literalsIn);
    texts.push(
      Array.from(pattern, (char) => (char === sign ? '\\' : char === '\\' ? '\\\\' : char)).join(''),
    );
    return false;
  });
  return texts;
}

/** Whether a call is that of `LIKE … ESCAPE …`. */
function isEscape({ funcname }: Node): boolean {
  return namesOf(funcname).at(-1) === 'like_escape';
}

/** Returns a literal as text. The parser writes an empty object for zero and for the empty text. */
export function literalText(node: Node): string {
  for (const [key, empty] of [
    ['sval', ''],
    ['fval', ''],
    ['ival', '0'],
  ] as const) {
    const value = asNode(node[key])[key];
    if (typeof value === 'string' || typeof value === 'number') return String(value);
    if (node[key] !== undefined) return empty;
  }
  return '';
}

/** Whether a node is a literal, with or without a cast; a pattern of literals, or an ARRAY of such. */
export function isLiteral(tree: unknown): boolean {
  const { A_Const, A_ArrayExpr, TypeCast, FuncCall } = asNode(tree);
  if (A_Const !== undefined) return true;
  if (TypeCast !== undefined) return isLiteral(asNode(TypeCast).arg);
  const call = asNode(FuncCall);
  if (isEscape(call)) return asList(call.args).every(isLiteral);
  return A_ArrayExpr !== undefined && asList(asNode(A_ArrayExpr).elements).every(isLiteral);
}

/** Whether a node is a literal without a cast, or an ARRAY of such. */
export function isPlainLiteral(tree: unknown): boolean {
  const { A_Const, A_ArrayExpr } = asNode(tree);
  if (A_Const !== undefined) return true;
  return A_ArrayExpr !== undefined && asList(asNode(A_ArrayExpr).elements).every(isPlainLiteral);
}
