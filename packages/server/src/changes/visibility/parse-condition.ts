import { refusal } from '../expressions/condition-refusal.js';
import { ExpressionPrinter } from '../expressions/expression-printer.js';
import { parseExpression, parsePrinted } from '../expressions/parse-expression.js';
import type { ColumnFacts } from '../model/table-facts.js';
import type { Condition } from './authorizer.js';

/** What differs between a tree and that of its print without a difference in meaning. */
const POSITIONS: ReadonlySet<string> = new Set([
  'location',
  'rexpr_list_start',
  'rexpr_list_end',
  'list_start',
  'list_end',
  'funcformat',
]);

/**
 * A condition's text as our own printer writes what it means. Refuses what is not on the allow-list. What was printed
 * is parsed again and must mean the same: a text that does not survive that is refused too.
 */
export function parseCondition(
  text: string,
  columns: readonly Pick<ColumnFacts, 'name' | 'generated'>[],
): Condition {
  const tree = parseExpression(text);
  const printer = new ExpressionPrinter(columns);
  const sql = printer.print(tree);
  if (meaning(parsePrinted(sql)) !== meaning(tree))
    throw refusal('The condition cannot be read in one way only');
  return { sql, columns: printer.columnsRead };
}

/** The tree without positions and spellings, as text. */
function meaning(tree: unknown): string {
  return JSON.stringify(tree, (key, value: unknown) => {
    if (POSITIONS.has(key)) return undefined;
    if ((key === 'funcname' || key === 'names') && Array.isArray(value) && value.length === 1)
      return [{ String: { sval: 'pg_catalog' } }, ...value];
    return value;
  });
}
