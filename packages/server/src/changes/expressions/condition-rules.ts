import type { ColumnFacts } from '../model/table-facts.js';
import { FUNCTIONS, OPERATORS, type Rule, TIME_TYPES, TYPES_OF_LITERALS } from './allow-list.js';
import {
  columnsIn,
  isLiteral,
  isPlainLiteral,
  literalsIn,
  literalText,
  visitNodes,
} from './condition-parts.js';
import { refusal } from './condition-refusal.js';
import { asList, asNode, isBetween, namesOf, PRESENT } from './expression-printer.js';
import type { Node } from './parse-expression.js';

/** A column as far as it is known. */
export type ConditionColumn = Pick<ColumnFacts, 'name' | 'generated'> &
  Partial<Pick<ColumnFacts, 'type' | 'typeOid'>>;

/** A type: its name in pg_type (of a domain, that of the type below) and its category. */
export interface OperandType {
  readonly name: string;
  readonly category: string;
}

/** Operands whose types PostgreSQL must be asked for. */
export interface TypeRequirement {
  readonly operands: readonly Node[];
  /** Whether an operand may have this type. One of them must. */
  readonly accepts: (type: OperandType) => boolean;
  /** Why the condition is refused otherwise. */
  readonly details: string;
}

/**
 * The most that the parts of a condition may cost together, in nanoseconds for each byte of a row: PostgreSQL interrupts
 * a statement between two rows, but hardly within one.
 */
const MAX_COST = 300;
const MAX_LITERAL_BYTES = 1_024;
/** Of types: a `char(n)` or a `numeric(n)` has as many characters or digits. */
const MAX_MODIFIER = 1_000;
const COST_OF_CAST = 20;
const COST_OF_SUBSCRIPT = 8;
const EQUALITY: ReadonlySet<string> = new Set(['=', '<>']);
/** Types without large values: bool, "char", name, integers, oid, floats, money, dates and times, uuid. */
const SMALL_TYPES: ReadonlySet<number> = new Set([
  16, 18, 19, 20, 21, 23, 26, 700, 701, 790, 1082, 1083, 1114, 1184, 1186, 1266, 2950,
]);
const NUMERIC = 1700;
const FIRST_USER_TYPE = 16_384;
/** Types whose input looks up a name in the catalog: its errors would tell what exists. */
const NAMES_OF_OBJECTS = /^(?:reg[a-z]+|aclitem)(?:\[\])?$/;
/** A number of thousands of digits, written short. */
const LARGE_EXPONENT = /(?<![\w.+-])-?(?:\d+\.?|\d*\.\d+)e\+?\d{4,}(?![\w-])/i;
const TEXT_TYPES: ReadonlySet<string> = new Set(['text', 'varchar', 'bpchar', 'name', 'json', 'bytea']);

/**
 * Checks the tree of a condition that the printer has accepted against the rules that bound its evaluation, whatever the
 * rows hold: no value grows, nothing depends on the present, and no row keeps PostgreSQL busy for long.
 */
export class ConditionRules {
  readonly requirements: TypeRequirement[] = [];
  /** The literals that have a word for the present. They are refused where PostgreSQL reads them as times. */
  readonly presentWords = new Set<string>();
  readonly #columns: ReadonlyMap<string, ConditionColumn>;
  #cost = 0;

  constructor(columns: readonly ConditionColumn[]) {
    this.#columns = new Map(columns.map((column) => [column.name, column]));
  }

  check(tree: Node): void {
    visitNodes(tree, (kind, node) => {
      this.#checkNode(kind, node);
      return true;
    });
    if (this.#cost > MAX_COST)
      throw refusal(
        'The condition can take too long on a large row; use fewer functions and comparisons of texts, and shorter patterns and lists',
      );
  }

  #checkNode(kind: string, node: Node): void {
    switch (kind) {
      case 'A_Const':
        this.#literal(node);
        break;
      case 'ColumnRef':
        this.#column(node);
        break;
      case 'A_Expr':
        this.#operation(node);
        break;
      case 'FuncCall':
        this.#call(node);
        break;
      case 'TypeCast':
        this.#cast(node);
        break;
      case 'MinMaxExpr':
        this.#charge([node.args], costOf('<') * asList(node.args).length);
        break;
      case 'CaseExpr':
        if (node.arg !== undefined)
          for (const branch of asList(node.args)) this.#charge([node.arg, branch], costOf('<'));
        break;
      case 'A_Indirection':
        this.#charge([node.arg], COST_OF_SUBSCRIPT * asList(node.indirection).length);
        break;
      case 'A_ArrayExpr':
        if (columnsIn(node).length > 0)
          throw refusal('A condition cannot read columns in an ARRAY; use IN, = ANY or OR');
    }
  }

  #literal(node: Node): void {
    const text = literalText(node);
    if (Buffer.byteLength(text) > MAX_LITERAL_BYTES)
      throw refusal(`The condition has a literal of more than ${MAX_LITERAL_BYTES} bytes`);
    if (LARGE_EXPONENT.test(text))
      throw refusal('The condition has a number with an exponent of more than three digits');
    if (node.sval !== undefined && PRESENT.test(text)) this.presentWords.add(text);
  }

  #column({ fields }: Node): void {
    const [name = ''] = namesOf(fields);
    const type = this.#columns.get(name)?.type ?? '';
    if (NAMES_OF_OBJECTS.test(type))
      throw refusal(
        `A condition cannot read column '${name}': its values are names of database objects (${type})`,
      );
  }

  #operation(node: Node): void {
    const operands = [node.lexpr, node.rexpr].filter((operand) => operand !== undefined);
    const [operator = ''] = namesOf(node.name);
    const rule = OPERATORS.get(operator);
    const isOfEach = node.kind === 'AEXPR_OP_ANY' || node.kind === 'AEXPR_OP_ALL';
    // BETWEEN compares at most four times, and IN with each element. An operator without a left side is a sign.
    if (isBetween(node)) this.#charge(operands, 4 * costOf('<'));
    else if (node.kind === 'AEXPR_IN') {
      const items = asList(asNode(asNode(node.rexpr).List).items);
      for (const item of items) this.#charge([node.lexpr, item], costOf(readsColumns(item) ? '<' : '='));
    } else if (rule !== undefined && operands.length === 2)
      this.#apply(rule, operands, `the operator ${operator}`, isOfEach ? elementsIn(node.rexpr) : 1);
    // Equal texts have equal lengths, but any other comparison reads the left side again for each element.
    if (isOfEach && !EQUALITY.has(operator) && readsColumns(node.rexpr) && this.#isLarge(node.lexpr))
      throw refusal(`A condition can use ${operator} ANY and ${operator} ALL only with a list of literals`);
    if (operator === '-' && operands.length === 2 && operands.every(readsColumns))
      this.requirements.push({
        operands: operands.slice(0, 1).map(asNode),
        accepts: ({ name }) => name !== 'jsonb',
        details: 'A condition can take only literals from a jsonb value by the operator -',
      });
  }

  #call({ funcname, args }: Node): void {
    const name = namesOf(funcname).at(-1) ?? '';
    const rule = FUNCTIONS.get(name);
    if (rule !== undefined) this.#apply(rule, asList(args), `${name}()`);
  }

  /** `times`: how often the operation is done. */
  #apply(rule: Rule, operands: readonly unknown[], what: string, times = 1): void {
    const { cost, costOfLiterals, literalsFrom = operands.length, maxNumber } = rule;
    const literals = operands.slice(literalsFrom);
    if (!literals.every(isLiteral))
      throw refusal(
        `A condition can use ${what} only with ${literalsFrom === 0 ? 'literals' : 'a literal behind the first argument'}`,
      );
    if (
      maxNumber !== undefined &&
      literalsIn(literals).some((number) => Math.abs(Number(number)) > maxNumber)
    )
      throw refusal(`A condition can use ${what} only with up to ${maxNumber} digits`);
    if (rule.isQuadratic === true) for (const operand of operands) this.#requirePrecision(operand, what);
    if (rule.comparesElements === true && operands.every(readsColumns))
      this.requirements.push({
        operands: operands.map(asNode),
        accepts: ({ category }) => 'RIG'.includes(category),
        details: `A condition can use ${what} on arrays and JSON only with a literal on one side`,
      });
    const searched = operands.filter((operand) => !readsColumns(operand));
    const own = operands.every(readsColumns) ? (rule.costOfColumns ?? cost) : cost;
    this.#charge(operands, times * (own + (costOfLiterals?.(literalsIn(searched)) ?? 0)));
  }

  /** Refuses columns and casts that can be numbers of any length. */
  #requirePrecision(tree: unknown, what: string): void {
    const refuse = (value: string): never => {
      throw refusal(
        `A condition can use ${what} on numeric values only with a precision; write CAST(${value} AS numeric(38, 10)), with the digits that you need`,
      );
    };
    visitNodes(tree, (kind, node) => {
      if (kind === 'ColumnRef') {
        const [name = ''] = namesOf(node.fields);
        const { type = '', typeOid = 0 } = this.#columns.get(name) ?? {};
        if (typeOid >= FIRST_USER_TYPE || (typeOid === NUMERIC && type === 'numeric')) refuse(name);
      }
      if (kind !== 'TypeCast') return true;
      const { names, typmods } = asNode(node.typeName);
      if (namesOf(names).at(-1) === 'numeric' && typmods === undefined && !isLiteral(node.arg)) refuse('…');
      return false;
    });
  }

  #cast({ arg, typeName }: Node): void {
    const { names, typmods, arrayBounds } = asNode(typeName);
    const type = namesOf(names).at(-1) ?? '';
    const isTooLong = literalsIn(typmods).some((modifier) => Math.abs(Number(modifier)) > MAX_MODIFIER);
    if (type !== 'interval' && isTooLong)
      throw refusal(`A condition cannot cast to ${type} with a modifier over ${MAX_MODIFIER}`);
    if (isPlainLiteral(arg)) return;
    if (arrayBounds !== undefined || TYPES_OF_LITERALS.has(type))
      throw refusal(
        `A condition can cast only literals to ${type}${arrayBounds === undefined ? '' : '[]'}${type === 'jsonb' ? '; cast to json' : ''}`,
      );
    this.#charge([arg], COST_OF_CAST + (TEXT_TYPES.has(type) ? COST_OF_CAST : 0));
    const operands = [asNode(arg)];
    if (TIME_TYPES.has(type))
      this.requirements.push({
        operands,
        accepts: ({ category }) => category === 'D' || category === 'T',
        details: `A condition can cast only literals, dates and times to ${type}: a text such as 'now' would depend on the present. Compare with a column of that type, or compare texts in ISO format`,
      });
    else if (TEXT_TYPES.has(type) && this.#isLarge(arg))
      this.requirements.push({
        operands,
        accepts: ({ name, category }) => category !== 'A' && name !== 'jsonb',
        details: `A condition cannot cast an array or a jsonb value to ${type}; use array operators, -> or ->>`,
      });
  }

  /** Adds the cost of an operation unless all that it reads is small. */
  #charge(operands: readonly unknown[], cost: number): void {
    if (this.#isLarge(operands)) this.#cost += cost;
  }

  #isLarge(tree: unknown): boolean {
    return columnsIn(tree).some((name) => !this.#isSmall(name));
  }

  #isSmall(name: string): boolean {
    const { typeOid = 0, type } = this.#columns.get(name) ?? {};
    return SMALL_TYPES.has(typeOid) || (typeOid === NUMERIC && type !== 'numeric');
  }
}

function readsColumns(tree: unknown): boolean {
  return columnsIn(tree).length > 0;
}

/** Returns how many elements a list has that is an array, or is written as one; 1 for a column. */
function elementsIn(list: unknown): number {
  if (readsColumns(list)) return 1;
  return literalsIn(list).reduce((count, text) => count + text.split(',').length, 0);
}

function costOf(operator: string): number {
  return OPERATORS.get(operator)?.cost ?? 0;
}
