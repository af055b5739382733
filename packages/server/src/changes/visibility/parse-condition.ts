import { refusal } from '../expressions/condition-refusal.js';
import { type ConditionColumn, ConditionRules, type OperandType } from '../expressions/condition-rules.js';
import { asNode, ExpressionPrinter, PRESENT } from '../expressions/expression-printer.js';
import { type Node, parseExpression, parsePrinted } from '../expressions/parse-expression.js';
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
/** What replaces a word for the present: no time in any format. */
const NO_TIME = 'notime';

/** A condition, with what only PostgreSQL can check of it. */
export interface ParsedCondition extends Condition {
  readonly requirements: readonly {
    /** SQL for the operands. One of their types must be accepted. */
    readonly operands: readonly string[];
    readonly accepts: (type: OperandType) => boolean;
    readonly details: string;
  }[];
  /**
   * The condition with a literal such as `today` replaced by one that is no time, for each such literal: PostgreSQL
   * refuses it where it reads the literal as a time.
   */
  readonly withoutPresent: readonly string[];
}

/**
 * Parses a condition and prints it with our own printer. Refuses anything that is not on the allow-list. The printed
 * text is parsed again and must have the same meaning: otherwise the condition is refused too.
 */
export function parseCondition(text: string, columns: readonly ConditionColumn[]): ParsedCondition {
  const tree = parseExpression(text);
  const printer = new ExpressionPrinter(columns);
  const sql = printer.print(tree);
  if (meaning(parsePrinted(sql)) !== meaning(tree))
    throw refusal('The condition cannot be printed without changing its meaning; write it in another way');
  const rules = new ConditionRules(columns);
  rules.check(tree);
  const print = (node: Node) => new ExpressionPrinter(columns).print(node);
  return {
    sql,
    columns: printer.columnsRead,
    requirements: rules.requirements.map((requirement) => ({
      ...requirement,
      operands: requirement.operands.map(print),
    })),
    withoutPresent: [...rules.presentWords].map((word) => print(withoutPresent(tree, word))),
  };
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

/** Returns the tree without the words for the present in literals that are `text`. */
function withoutPresent(tree: Node, text: string): Node {
  const replaced = JSON.stringify(tree, (key, value: unknown) =>
    key === 'A_Const' && asNode(asNode(value).sval).sval === text
      ? { sval: { sval: text.replace(new RegExp(PRESENT, 'gi'), NO_TIME) } }
      : value,
  );
  return JSON.parse(replaced) as Node;
}
