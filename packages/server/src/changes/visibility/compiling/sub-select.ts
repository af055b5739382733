import { asList, asNode, quotedName, unknownKeys } from '../../expressions/expression-printer.js';
import type { Node } from '../../expressions/parse-expression.js';
import type { ColumnFacts } from '../../model/table-facts.js';
import { NotCompilable } from './not-compilable.js';
import {
  type KnownNames,
  type MembershipTable,
  ViewerExpressionPrinter,
} from './viewer-expression-printer.js';

/** `x IN (SELECT …)`, or an equivalent EXISTS: a list of one column that depends on the viewer alone. */
export interface SubSelect {
  /** The list in SQL, as an array. */
  readonly sql: string;
  /** The family of its values; null: values that only PostgreSQL compares. */
  readonly family: string | null;
  /** The value that is searched in the list: an expression over the row. */
  readonly outer: Node;
  /** Whether it is an EXISTS, whose result is never unknown. */
  readonly isExists: boolean;
  /** The condition of a list over one table of which the role sees all rows; undefined for other lists. */
  readonly plain:
    | {
        readonly name: string;
        readonly columns: readonly ColumnFacts[];
        readonly conjuncts: readonly Node[];
        readonly column: ColumnFacts;
      }
    | undefined;
  readonly tables: readonly {
    readonly oid: number;
    /** A column of the table that must equal a value of the viewer; undefined: none is known. */
    readonly key: MembershipKey | undefined;
  }[];
}

interface MembershipKey {
  readonly column: ColumnFacts;
  readonly columnIndex: number;
  readonly viewerExpression: Node;
}

/** A table in FROM, with the name that it has there. */
interface Source {
  readonly alias: string;
  readonly sql: string;
  readonly table: MembershipTable;
}

/** The most tables that a sub-select may join. */
const MAX_TABLES = 2;

/** Reads a sub-select that is a membership list. `outer`: the name of the row's own table. Throws NotCompilable. */
export function subSelectOf(sublink: Node, outer: string, known: KnownNames): SubSelect {
  const isExists = sublink.subLinkType === 'EXISTS_SUBLINK';
  const isIn = sublink.subLinkType === 'ANY_SUBLINK' && sublink.operName === undefined;
  const select = asNode(asNode(sublink.subselect).SelectStmt);
  const others = unknownKeys(select, ['targetList', 'fromClause', 'whereClause', 'limitOption', 'op']);
  const isPlain = select.limitOption === 'LIMIT_OPTION_DEFAULT' && select.op === 'SETOP_NONE';
  if (!(isExists || isIn) || others.length > 0 || !isPlain)
    throw new NotCompilable('it has a sub-select of a kind that only PostgreSQL evaluates');
  const conjuncts = conjunctsOf(asNode(select.whereClause));
  const sources = asList(select.fromClause).flatMap((item) => sourcesOf(asNode(item), known, conjuncts));
  if (sources.length === 0 || sources.length > MAX_TABLES)
    throw new NotCompilable(`it has a sub-select over no table or more than ${MAX_TABLES}`);
  const [source] = sources;
  const found = isExists ? correlated(conjuncts, sources, outer) : undefined;
  const target = isExists ? found?.inner : targetOf(select);
  const searched = isExists ? found?.outer : asNode(sublink.testexpr);
  const column = target === undefined ? undefined : columnOf(target, sources)?.column;
  if (target === undefined || searched === undefined || column === undefined)
    throw new NotCompilable('it has a sub-select that is not a list of one column');
  const conditions = conjuncts.filter((conjunct) => conjunct !== found?.conjunct);
  const printer = new SubSelectPrinter(known, sources);
  const where = conditions.map((conjunct) => printer.print(conjunct));
  const from = sources.map(({ sql }) => sql).join(' CROSS JOIN ');
  const filter = where.length === 0 ? '' : ` WHERE ${where.join(' AND ')}`;
  return {
    sql: `ARRAY(SELECT ${printer.print(target)} FROM ${from}${filter})`,
    family: column.family,
    outer: searched,
    isExists,
    plain:
      sources.length === 1 && source?.table.isOpen === true
        ? { name: source.alias, columns: source.table.columns, conjuncts: conditions, column }
        : undefined,
    tables: sources.map((from) => ({ oid: from.table.oid, key: keyOf(conditions, from, sources) })),
  };
}

/** Returns whether an expression has a part that is not the same for all rows. */
export function hasColumns(tree: unknown): boolean {
  if (Array.isArray(tree)) return tree.some(hasColumns);
  if (typeof tree !== 'object' || tree === null) return false;
  return Object.entries(tree).some(
    ([key, value]) => key === 'ColumnRef' || key === 'fromClause' || hasColumns(value),
  );
}

function targetOf(select: Node): Node | undefined {
  const [target, ...others] = asList(select.targetList);
  return others.length > 0 ? undefined : (asNode(asNode(target).ResTarget).val as Node | undefined);
}

/** Returns the parts of an AND. */
function conjunctsOf(tree: Node): Node[] {
  if (Object.keys(tree).length === 0) return [];
  const { boolop, args } = asNode(tree.BoolExpr);
  return boolop === 'AND_EXPR' ? asList(args).flatMap((part) => conjunctsOf(asNode(part))) : [tree];
}

/** Returns the tables of an item of FROM. Adds the conditions of joins to `conjuncts`. */
function sourcesOf(item: Node, known: KnownNames, conjuncts: Node[]): Source[] {
  const join = asNode(item.JoinExpr);
  if (item.JoinExpr !== undefined) {
    const others = unknownKeys(join, ['jointype', 'larg', 'rarg', 'quals', 'rtindex']);
    if (join.jointype !== 'JOIN_INNER' || others.length > 0)
      throw new NotCompilable('it has a join that only PostgreSQL evaluates');
    conjuncts.push(...conjunctsOf(asNode(join.quals)));
    return [join.larg, join.rarg].flatMap((side) => sourcesOf(asNode(side), known, conjuncts));
  }
  const { schemaname, relname, alias, ...rest } = asNode(item.RangeVar);
  const others = unknownKeys(rest, ['inh', 'relpersistence', 'location']);
  if (typeof schemaname !== 'string' || typeof relname !== 'string' || others.length > 0)
    throw new NotCompilable('it has a sub-select over something other than tables');
  const { aliasname, ...more } = asNode(alias);
  const name = `${schemaname}.${relname}`;
  const table = known.tables.get(name) ?? 'is not a table';
  if (typeof table === 'string') throw new NotCompilable(`it reads ${name}, which ${table}`);
  if (Object.keys(more).length > 0) throw new NotCompilable('it renames columns');
  const as = typeof aliasname === 'string' ? aliasname : relname;
  return [{ alias: as, table, sql: `${quotedName(schemaname)}.${quotedName(relname)} AS ${quotedName(as)}` }];
}

/** Finds the conjunct that ties an EXISTS to the row: a column of the sub-select equals a column of the row. */
function correlated(
  conjuncts: readonly Node[],
  sources: readonly Source[],
  outer: string,
): { readonly conjunct: Node; readonly inner: Node; readonly outer: Node } | undefined {
  const isOuter = (tree: Node) => {
    const names = fieldsOf(tree);
    return names.length === 2 && names[0] === outer && sources.every(({ alias }) => alias !== outer);
  };
  for (const conjunct of conjuncts) {
    const [left, right] = equality(conjunct);
    if (left === undefined || right === undefined) continue;
    if (isOuter(left) && columnOf(right, sources) !== undefined)
      return { conjunct, inner: right, outer: left };
    if (isOuter(right) && columnOf(left, sources) !== undefined)
      return { conjunct, inner: left, outer: right };
  }
  return undefined;
}

/** Finds a column of the source that must equal a value of the viewer. */
function keyOf(
  conjuncts: readonly Node[],
  source: Source,
  sources: readonly Source[],
): MembershipKey | undefined {
  for (const conjunct of conjuncts) {
    const sides = equality(conjunct);
    for (const [column, viewerExpression] of [sides, sides.toReversed()]) {
      const found = column === undefined ? undefined : columnOf(column, sources);
      if (found?.source !== source || viewerExpression === undefined || hasColumns(viewerExpression))
        continue;
      return {
        column: found.column,
        columnIndex: source.table.columns.indexOf(found.column),
        viewerExpression,
      };
    }
  }
  return undefined;
}

/** Returns the two sides of an equality, or undefined for both. */
function equality(tree: Node): readonly (Node | undefined)[] {
  const { kind, name, lexpr, rexpr } = asNode(tree.A_Expr);
  const operator = asList(name).map((part) => asNode(asNode(part).String).sval);
  if (kind !== 'AEXPR_OP' || operator.length !== 1 || operator[0] !== '=') return [undefined, undefined];
  return [asNode(lexpr), asNode(rexpr)];
}

function fieldsOf(tree: Node): readonly unknown[] {
  return asList(asNode(tree.ColumnRef).fields).map((field) => asNode(asNode(field).String).sval);
}

function columnOf(
  tree: Node,
  sources: readonly Source[],
): { readonly source: Source; readonly column: ColumnFacts } | undefined {
  const names = fieldsOf(tree);
  const [first] = names;
  const among = names.length === 2 ? sources.filter(({ alias }) => alias === first) : sources;
  if (names.length === 0 || names.length > 2) return undefined;
  for (const source of among) {
    const column = source.table.columns.find(({ name }) => name === names.at(-1));
    if (column !== undefined) return { source, column };
  }
  return undefined;
}

/** Prints conditions over the tables of a sub-select. Refuses columns of the row. */
class SubSelectPrinter extends ViewerExpressionPrinter {
  readonly #sources: readonly Source[];
  /** Whether the node is inside `= ANY (…)`, where a sub-select would have another meaning. */
  #isInAny = false;

  constructor(known: KnownNames, sources: readonly Source[]) {
    super(known);
    this.#sources = sources;
  }

  override print(node: unknown): string {
    const before = this.#isInAny;
    this.#isInAny ||= asNode(asNode(node).A_Expr).kind === 'AEXPR_OP_ANY';
    const text = super.print(node);
    this.#isInAny = before;
    return text;
  }

  /** Wraps a call that depends on the viewer alone in SELECT: PostgreSQL evaluates it once and not for each row. */
  protected override otherCall(names: readonly string[], args: readonly unknown[]): string {
    const call = super.otherCall(names, args);
    const dependsOnViewerOnly = args.length === 0 || names.at(-1) === 'current_setting';
    return dependsOnViewerOnly && !this.#isInAny ? `(SELECT ${call})` : call;
  }

  protected override printColumn(node: Node): string {
    const found = columnOf({ ColumnRef: node }, this.#sources);
    if (found === undefined)
      throw new NotCompilable('it has a sub-select that depends on more than one value of the row');
    if (found.column.generated !== null) throw new NotCompilable(`column ${found.column.name} is generated`);
    return `${quotedName(found.source.alias)}.${quotedName(found.column.name)}`;
  }
}
