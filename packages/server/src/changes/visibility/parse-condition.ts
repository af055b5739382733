import { refusal } from '../expressions/condition-refusal.js';
import { ExpressionPrinter } from '../expressions/expression-printer.js';
import { parseExpression, parsePrinted } from '../expressions/parse-expression.js';
import type { ColumnFacts } from '../model/table-facts.js';
import type { Condition } from './authorizer.js';

/** Keys of a parse tree that do not change its meaning. They differ between a tree and that of its printed form. */
const MEANINGLESS_KEYS: ReadonlySet<string> = new Set([
  'location',
  'rexpr_list_start',
  'rexpr_list_end',
  'list_start',
  'list_end',
  'funcformat',
]);

/** A condition, with SQL for arrays of its LIKE patterns. */
export interface ParsedCondition extends Condition {
  readonly patterns: readonly string[];
}

/**
 * Parses a condition and prints it with our own printer. Refuses anything that is not on the allow-list. The printed
 * text is parsed again and must have the same meaning: otherwise the condition is refused too.
 */
export function parseCondition(
  text: string,
  columns: readonly Pick<ColumnFacts, 'name' | 'generated'>[],
): ParsedCondition {
  const tree = parseExpression(text);
  const printer = new ExpressionPrinter(columns);
  const sql = printer.print(tree);
  if (meaning(parsePrinted(sql)) !== meaning(tree))
    throw refusal('The condition cannot be printed without changing its meaning; write it in another way');
  return { sql, columns: printer.columnsRead, patterns: printer.patterns };
}

/** Returns the tree as text, without source positions and spellings. */
function meaning(tree: unknown): string {
  return JSON.stringify(tree, (key, value: unknown) => {
    if (MEANINGLESS_KEYS.has(key)) return undefined;
    if ((key === 'funcname' || key === 'names') && Array.isArray(value) && value.length === 1)
      return [{ String: { sval: 'pg_catalog' } }, ...value];
    return value;
  });
}
