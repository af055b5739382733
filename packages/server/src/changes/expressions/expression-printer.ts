import { FUNCTIONS, INSTEAD, OPERATORS, TIME_TYPES, TYPES } from './allow-list.js';
import { PRESENT_REFUSED, refusal } from './condition-refusal.js';
import type { Node } from './parse-expression.js';

const MAX_NODES = 500;
const MAX_DEPTH = 50;

const NULL_TESTS: Readonly<Record<string, string>> = { IS_NULL: 'IS NULL', IS_NOT_NULL: 'IS NOT NULL' };
const BOOLEAN_TESTS: Readonly<Record<string, string>> = {
  IS_TRUE: 'IS TRUE',
  IS_NOT_TRUE: 'IS NOT TRUE',
  IS_FALSE: 'IS FALSE',
  IS_NOT_FALSE: 'IS NOT FALSE',
  IS_UNKNOWN: 'IS UNKNOWN',
  IS_NOT_UNKNOWN: 'IS NOT UNKNOWN',
};
const BETWEEN: Readonly<Record<string, string>> = {
  AEXPR_BETWEEN: 'BETWEEN',
  AEXPR_NOT_BETWEEN: 'NOT BETWEEN',
  AEXPR_BETWEEN_SYM: 'BETWEEN SYMMETRIC',
  AEXPR_NOT_BETWEEN_SYM: 'NOT BETWEEN SYMMETRIC',
};
/** Names of refused nodes, for messages. */
const REFUSED: Readonly<Record<string, string>> = {
  SubLink: 'sub-selects',
  ParamRef: 'parameters',
  RowExpr: 'row values',
  CollateClause: 'COLLATE',
  GroupingFunc: 'aggregates',
  SetToDefault: 'DEFAULT',
};
/** Words for the present in texts that are read as times. PostgreSQL ignores punctuation around them. */
export const PRESENT = /(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])/i;

/** Prints an expression if all its parts are allowed. Refuses any other, naming the part. */
export class ExpressionPrinter {
  readonly #columns: ReadonlyMap<string, { readonly isGenerated: boolean }>;
  readonly #read = new Set<string>();
  #nodes = 0;
  #depth = 0;

  constructor(columns: readonly { readonly name: string; readonly generated: string | null }[]) {
    this.#columns = new Map(
      columns.map(({ name, generated }) => [name, { isGenerated: generated !== null }]),
    );
  }

  /** The names of the columns that the printed expression reads. */
  get columnsRead(): readonly string[] {
    return [...this.#read];
  }

  /** Prints a node as SQL: parentheses wherever precedence could matter, every name and literal quoted. */
  print(node: unknown): string {
    this.#nodes += 1;
    this.#depth += 1;
    if (this.#nodes > MAX_NODES || this.#depth > MAX_DEPTH)
      throw refusal(
        `The condition is too complex: at most ${MAX_NODES} parts, nested at most ${MAX_DEPTH} deep`,
      );
    const [kind, value] = Object.entries(asNode(node))[0] ?? ['', undefined];
    const text = this.#printKind(kind, asNode(value));
    this.#depth -= 1;
    return text;
  }

  #printKind(kind: string, node: Node): string {
    switch (kind) {
      case 'BoolExpr':
        return this.#logic(node);
      case 'A_Expr':
        return this.#operation(node);
      case 'A_Const':
        return constant(node);
      case 'ColumnRef':
        return this.printColumn(node);
      case 'NullTest':
        return `(${this.print(node.arg)} ${sqlFor(NULL_TESTS, node.nulltesttype)})`;
      case 'BooleanTest':
        return `(${this.print(node.arg)} ${sqlFor(BOOLEAN_TESTS, node.booltesttype)})`;
      case 'TypeCast':
        return this.#cast(node);
      case 'FuncCall':
        return this.#call(node);
      case 'CoalesceExpr':
        return `COALESCE(${this.#list(node.args)})`;
      case 'MinMaxExpr':
        return `${node.op === 'IS_LEAST' ? 'LEAST' : 'GREATEST'}(${this.#list(node.args)})`;
      case 'CaseExpr':
        return this.#caseWhen(node);
      case 'A_ArrayExpr':
        return `(ARRAY[${this.#list(node.elements ?? [])}])`;
      case 'A_Indirection':
        return this.#subscript(node);
      default:
        return this.printOther(kind, node);
    }
  }

  /** Refuses a node that no condition has. A printer that allows more overrides it and returns SQL. */
  protected printOther(kind: string, _node: Node): string {
    if (kind === 'SQLValueFunction') throw refusal(PRESENT_REFUSED);
    throw refusal(`A condition cannot contain ${REFUSED[kind] ?? 'expressions of this kind'}`);
  }

  /** Refuses a cast to a type that is not on the allow-list. An override returns the type's name in SQL. */
  protected otherType(names: readonly string[]): string {
    throw refusal(`A condition cannot cast to ${names.join('.')}`);
  }

  /** Refuses an operator that is not on the allow-list. An override returns it in SQL. */
  protected otherOperator(names: readonly string[]): string {
    throw refusal(`A condition cannot use the operator ${names.join('.')}${instead(names)}`);
  }

  /** Refuses a call of a function that is not on the allow-list. An override returns the call in SQL. */
  protected otherCall(names: readonly string[], _args: readonly unknown[]): string {
    throw refusal(`A condition cannot call ${names.join('.')}()${instead(names)}`);
  }

  #list(nodes: unknown): string {
    return asList(nodes)
      .map((node) => this.print(node))
      .join(', ');
  }

  #logic({ boolop, args }: Node): string {
    const parts = asList(args).map((part) => this.print(part));
    if (boolop === 'NOT_EXPR') return `(NOT ${parts.join('')})`;
    return `(${parts.join(boolop === 'AND_EXPR' ? ' AND ' : ' OR ')})`;
  }

  #operation(node: Node): string {
    const { kind, lexpr, rexpr } = node;
    const operator = this.#operator(node);
    const left = () => this.print(lexpr);
    const right = () => this.print(rexpr);
    switch (kind) {
      case 'AEXPR_OP':
        return lexpr === undefined ? `(${operator} ${right()})` : `(${left()} ${operator} ${right()})`;
      case 'AEXPR_OP_ANY':
        return `(${left()} ${operator} ANY (${right()}))`;
      case 'AEXPR_OP_ALL':
        return `(${left()} ${operator} ALL (${right()}))`;
      case 'AEXPR_DISTINCT':
        return `(${left()} IS DISTINCT FROM ${right()})`;
      case 'AEXPR_NOT_DISTINCT':
        return `(${left()} IS NOT DISTINCT FROM ${right()})`;
      case 'AEXPR_NULLIF':
        return `NULLIF(${left()}, ${right()})`;
      case 'AEXPR_IN':
        return `(${left()} ${operator === '<>' ? 'NOT IN' : 'IN'} (${this.#list(asNode(asNode(rexpr).List).items)}))`;
      case 'AEXPR_LIKE':
        return `(${left()} ${operator === '!~~' ? 'NOT LIKE' : 'LIKE'} ${right()})`;
      case 'AEXPR_ILIKE':
        return `(${left()} ${operator === '!~~*' ? 'NOT ILIKE' : 'ILIKE'} ${right()})`;
      case 'AEXPR_SIMILAR':
        throw refusal('A condition cannot use SIMILAR TO; use LIKE, or ~ for a regular expression');
      default: {
        const words = sqlFor(BETWEEN, kind);
        const [from, to] = asList(asNode(asNode(rexpr).List).items).map((part) => this.print(part));
        return `(${left()} ${words} ${from} AND ${to})`;
      }
    }
  }

  #operator(node: Node): string {
    if (isBetween(node)) return '';
    const names = namesOf(node.name);
    const [operator] = names;
    if (names.length === 1 && operator !== undefined && OPERATORS.has(operator)) return operator;
    return this.otherOperator(names);
  }

  protected printColumn({ fields }: Node): string {
    const names = asList(fields).map((field) => asNode(asNode(field).String).sval);
    const [name] = names;
    if (names.length !== 1 || typeof name !== 'string')
      throw refusal('A condition must name columns of its table without a table name');
    const column = this.#columns.get(name);
    if (column === undefined) throw refusal(`Column '${name}' does not exist`);
    if (column.isGenerated)
      throw refusal(
        `Column '${name}' is generated: row changes do not carry it, so a condition cannot read it`,
      );
    this.#read.add(name);
    return quotedName(name);
  }

  #cast({ arg, typeName }: Node): string {
    const { names, typmods, arrayBounds, ...others } = asNode(typeName);
    const qualified = namesOf(names);
    const name = qualified.at(-1) ?? '';
    const isBuiltIn = qualified.length === 1 || (qualified.length === 2 && qualified[0] === 'pg_catalog');
    const more = unknownKeys(others, ['typemod', 'location']);
    const isKnown = isBuiltIn && TYPES.has(name);
    if (more.length > 0) throw refusal(`A condition cannot cast to ${qualified.join('.')}`);
    const word = asNode(asNode(asNode(asNode(arg).A_Const).sval)).sval;
    if (TIME_TYPES.has(name) && typeof word === 'string' && PRESENT.test(word))
      throw refusal(PRESENT_REFUSED);
    const modifiers = asList(typmods ?? []).map((modifier) => this.print(modifier));
    const dimensions = asList(arrayBounds ?? []).map(() => '[]');
    const type = `${isKnown ? `pg_catalog.${quotedName(name)}` : this.otherType(qualified)}${modifiers.length > 0 ? `(${modifiers.join(', ')})` : ''}`;
    return `CAST(${this.print(arg)} AS ${type}${dimensions.join('')})`;
  }

  #call(node: Node): string {
    const { funcname, args } = node;
    const others = unknownKeys(node, ['funcname', 'args', 'funcformat', 'location']);
    const names = namesOf(funcname);
    const name = names.at(-1) ?? '';
    const isBuiltIn = names.length === 1 || (names.length === 2 && names[0] === 'pg_catalog');
    const isKnown = isBuiltIn && FUNCTIONS.has(name);
    if (isKnown && Object.keys(others).length > 0)
      throw refusal('A condition cannot contain aggregates or window functions');
    if (!isKnown) return this.otherCall(names, asList(args));
    return `pg_catalog.${quotedName(name)}(${this.#list(args ?? [])})`;
  }

  #caseWhen({ arg, args, defresult }: Node): string {
    const subject = arg === undefined ? '' : ` ${this.print(arg)}`;
    const whens = asList(args).map((branch) => {
      const { expr, result } = asNode(asNode(branch).CaseWhen);
      return ` WHEN ${this.print(expr)} THEN ${this.print(result)}`;
    });
    const otherwise = defresult === undefined ? '' : ` ELSE ${this.print(defresult)}`;
    return `(CASE${subject}${whens.join('')}${otherwise} END)`;
  }

  #subscript({ arg, indirection }: Node): string {
    const parts = asList(indirection).map((step) => {
      const { is_slice: isRange, lidx, uidx, ...others } = asNode(asNode(step).A_Indices);
      if (asNode(step).A_Indices === undefined || Object.keys(others).length > 0)
        throw refusal('A condition cannot read fields of composite values');
      const upper = uidx === undefined ? '' : this.print(uidx);
      if (isRange !== true) return `[${upper}]`;
      return `[${lidx === undefined ? '' : this.print(lidx)}:${upper}]`;
    });
    return `(${this.print(arg)})${parts.join('')}`;
  }
}

export function isBetween({ kind }: Node): boolean {
  return typeof kind === 'string' && kind in BETWEEN;
}

/** Returns what to use instead of a function or operator, as the end of a sentence; empty: nothing is known. */
function instead(names: readonly string[]): string {
  const advice = INSTEAD.get(names.at(-1) ?? '');
  return advice === undefined ? '' : `; ${advice}`;
}

function constant(node: Node): string {
  if (node.isnull === true) return 'NULL';
  if (node.boolval !== undefined) return asNode(node.boolval).boolval === true ? 'TRUE' : 'FALSE';
  // The parser writes an empty object for zero and for the empty text.
  const { ival, fval, sval } = node;
  if (ival !== undefined) return number(asNode(ival).ival ?? 0);
  if (fval !== undefined) return number(asNode(fval).fval);
  const text = sval === undefined ? undefined : (asNode(sval).sval ?? '');
  if (typeof text === 'string') return `'${text.replaceAll("'", "''")}'`;
  throw refusal('A condition cannot contain bit strings');
}

function number(value: unknown): string {
  const text = typeof value === 'number' || typeof value === 'string' ? String(value) : '';
  if (!/^-?[0-9.]+(?:[eE][-+]?[0-9]+)?$/.test(text))
    throw refusal(`A condition cannot contain the number ${text}`);
  return text.startsWith('-') ? `(${text})` : text;
}

export function quotedName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function sqlFor(table: Readonly<Record<string, string>>, key: unknown): string {
  const found = typeof key === 'string' ? table[key] : undefined;
  if (found === undefined) throw refusal('A condition cannot contain expressions of this kind');
  return found;
}

/** Returns the keys of a node that its kind is not known to have: a printer would leave them out. */
export function unknownKeys(node: Node, known: readonly string[]): string[] {
  return Object.keys(node).filter((key) => !known.includes(key));
}

/** Returns the parts of a name. */
export function namesOf(parts: unknown): string[] {
  return asList(parts).map((part) => String(asNode(asNode(part).String).sval));
}

export function asNode(value: unknown): Node {
  return typeof value === 'object' && value !== null ? (value as Node) : {};
}

export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
