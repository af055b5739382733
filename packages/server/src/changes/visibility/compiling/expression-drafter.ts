import { asList, asNode } from '../../expressions/expression-printer.js';
import type { Node } from '../../expressions/parse-expression.js';
import type { ColumnFacts } from '../../model/table-facts.js';
import type { ListEntry, Membership } from './compiled-expression.js';
import { type Draft, type Drafted, type DraftParts, finishDraft } from './expression-draft.js';
import { NotCompilable } from './not-compilable.js';
import type { Comparison, List, Operand, Pattern, Predicate } from './predicate.js';
import { HAS_OUR_CHARACTERS, type Leaf, plainAnswer, TEXT_TYPES } from './row-independent-leaf.js';
import { hasColumns, type SubSelect, subSelectOf } from './sub-select.js';
import { type Family, familyOf, plainTypeName } from './type-families.js';
import { listOf } from './value-list.js';
import { type KnownNames, ViewerExpressionPrinter, wrappedIn } from './viewer-expression-printer.js';

/** Types of single values that are only tested for NULL in process, and not compared. */
const NULL_TESTED: ReadonlySet<number> = new Set([
  17, 114, 650, 700, 701, 829, 869, 1042, 1083, 1186, 1266, 3802,
]);
const OPERATORS: ReadonlySet<string> = new Set(['=', '<>', '<', '<=', '>', '>=']);
const NUMBER_RANK: ReadonlyMap<string, number> = new Map([
  ['int2', 1],
  ['int4', 2],
  ['int8', 3],
  ['numeric', 4],
]);
const NUMBER_OIDS: ReadonlyMap<number, number> = new Map([
  [21, 1],
  [23, 2],
  [20, 3],
  [1700, 4],
]);
/** The family of NULL, and of columns that are only tested for NULL. It compares with every family. */
const ANY_FAMILY: Family = { name: 'null', isOrdered: true, parse: (text) => text, compare: () => 0 };

/** Drafts an expression from its parse tree. Throws NotCompilable if only PostgreSQL can evaluate it. */
export function draftOf(
  tree: Node,
  table: { readonly name: string; readonly columns: readonly ColumnFacts[] },
  known: KnownNames,
): Draft {
  const drafter = new Drafter(table, known);
  const root = drafter.predicate(tree);
  return { leaves: drafter.leaves, finish: (answers) => finishDraft(root, drafter, answers) };
}

/** Translates parse trees to predicates, and collects the leaves that PostgreSQL evaluates. */
class Drafter implements DraftParts {
  readonly leaves: Leaf[];
  readonly patterns: Set<number>;
  readonly optional: Set<number>;
  readonly memberships: Drafted<Membership>[] = [];
  readonly #table: { readonly name: string; readonly columns: readonly ColumnFacts[] };
  readonly #known: KnownNames;

  /** `outer`: the drafter of the expression, over another table, that this one is part of. They share leaves. */
  constructor(
    table: { readonly name: string; readonly columns: readonly ColumnFacts[] },
    known: KnownNames,
    outer?: Drafter,
  ) {
    this.#table = table;
    this.#known = known;
    this.leaves = outer?.leaves ?? [];
    this.patterns = outer?.patterns ?? new Set();
    this.optional = outer?.optional ?? new Set();
  }

  predicate(tree: Node): Drafted<Predicate> {
    const [kind, node] = only(tree);
    if (kind === 'BoolExpr') return this.#logic(node);
    if (kind === 'SubLink') {
      const inner = wrappedIn(node);
      return inner === undefined ? this.#membership(node) : this.predicate(inner);
    }
    if (!hasColumns(tree)) return this.#holds(this.#leaf(tree));
    switch (kind) {
      case 'ColumnRef':
        return this.#holds(this.#operand(tree));
      case 'A_Expr':
        return this.#operation(node);
      case 'NullTest':
        return negatedIf(node.nulltesttype === 'IS_NOT_NULL', this.#isNull(asNode(node.arg)));
      case 'BooleanTest':
        return this.#booleanTest(node);
      default:
        throw new NotCompilable('it has an expression that only PostgreSQL evaluates');
    }
  }

  /** Drafts `column IN (SELECT …)`, or an EXISTS that looks for the column's value. */
  #membership(sublink: Node): Drafted<Predicate> {
    const select = subSelectOf(sublink, this.#table.name, this.#known);
    // The family is known without PostgreSQL: planning the sub-select would evaluate settings, and fail without them.
    const answer = { family: select.family, value: null };
    const list = this.leaves.push({ sql: select.sql, isList: true, isConstant: false, answer }) - 1;
    const entry = this.#entry(select, list);
    for (const { oid, key } of select.tables) {
      if (key === undefined) {
        this.memberships.push((answers) => ({ oid, concerns: undefined, entry: entry(answers) }));
        continue;
      }
      const { column, columnIndex, viewerExpression } = key;
      const type = plainTypeName(column.typeOid) ?? column.type;
      const leaf = this.#leafOf(viewerExpression, false, isUntyped(viewerExpression) ? type : undefined);
      this.memberships.push((answers) => {
        const right = answers(leaf) as Operand;
        const own = { oid, entry: entry(answers) };
        if (column.family !== right.family.name) return { ...own, concerns: undefined };
        const left: Operand = { kind: 'column', columnIndex, family: right.family };
        return { ...own, concerns: { kind: 'compare', operator: '=', left, right } };
      });
    }
    const isMember = this.#among(select.outer, list);
    if (!select.isExists) return isMember;
    return (answers) => ({ kind: 'is', part: isMember(answers), truth: true });
  }

  /** Drafts which rows of the table are in the list, if each row alone decides it. */
  #entry({ plain, family }: SubSelect, list: number): Drafted<ListEntry | undefined> {
    if (plain === undefined || family === null) return () => undefined;
    const { columns, conjuncts, column } = plain;
    const first = this.leaves.length;
    const inner = new Drafter(plain, this.#known, this);
    const parts = ifCompilable(() => conjuncts.map((conjunct) => inner.predicate(conjunct)));
    for (let n = first; n < this.leaves.length; n++) this.optional.add(n);
    if (parts === undefined || inner.memberships.length > 0) return () => undefined;
    return (answers) =>
      ifCompilable(() => ({
        parameter: (answers(list) as List & { readonly kind: 'parameter' }).parameter,
        predicate: { kind: 'and', parts: parts.map((part) => part(answers)) },
        columnIndex: columns.indexOf(column),
        family: familyOf(family),
      }));
  }

  #logic({ boolop, args }: Node): Drafted<Predicate> {
    const parts = asList(args).map((part) => this.predicate(asNode(part)));
    const [first] = parts;
    if (boolop === 'NOT_EXPR' && first !== undefined) return negatedIf(true, first);
    const kind = boolop === 'AND_EXPR' ? 'and' : 'or';
    return (answers) => ({ kind, parts: parts.map((part) => part(answers)) });
  }

  #holds(operand: Drafted<Operand>): Drafted<Predicate> {
    return (answers) => ({ kind: 'holds', operand: ofFamily(operand(answers), 'bool') });
  }

  #isNull(tree: Node): Drafted<Predicate> {
    const column = this.#column(tree);
    if (column !== undefined && column.family === null && NULL_TESTED.has(column.typeOid)) {
      const columnIndex = this.#table.columns.indexOf(column);
      return () => ({ kind: 'isNull', operand: { kind: 'column', columnIndex, family: ANY_FAMILY } });
    }
    const operand = this.#operand(tree);
    return (answers) => ({ kind: 'isNull', operand: operand(answers) });
  }

  #booleanTest({ arg, booltesttype }: Node): Drafted<Predicate> {
    const part = this.predicate(asNode(arg));
    const words = String(booltesttype);
    const truth = words.endsWith('TRUE') ? true : words.endsWith('FALSE') ? false : null;
    return negatedIf(words.startsWith('IS_NOT'), (answers) => ({ kind: 'is', part: part(answers), truth }));
  }

  #operation(node: Node): Drafted<Predicate> {
    const { kind, lexpr, rexpr } = node;
    const operator = asList(node.name)
      .map((part) => String(asNode(asNode(part).String).sval))
      .join('.');
    const [left, right] = [asNode(lexpr), asNode(rexpr)];
    switch (kind) {
      case 'AEXPR_OP':
        if (operator === '~~' || operator === '!~~') return this.#like(left, right, operator === '!~~');
        return this.#comparison(operator, left, right);
      case 'AEXPR_LIKE':
        return this.#like(left, right, operator === '!~~');
      case 'AEXPR_DISTINCT':
      case 'AEXPR_NOT_DISTINCT': {
        const [a, b] = this.#pair(left, right);
        return negatedIf(kind === 'AEXPR_NOT_DISTINCT', (answers) => ({
          kind: 'distinct',
          ...comparable(a(answers), b(answers), false),
        }));
      }
      case 'AEXPR_IN':
        return negatedIf(operator === '<>', this.#in(left, asList(asNode(asNode(rexpr).List).items)));
      case 'AEXPR_OP_ANY':
        if (operator === '=') return this.#any(left, right);
        break;
      case 'AEXPR_OP_ALL':
        if (operator === '<>') return negatedIf(true, this.#any(left, right));
        break;
      case 'AEXPR_BETWEEN':
      case 'AEXPR_NOT_BETWEEN': {
        const [from, to] = asList(asNode(asNode(rexpr).List).items).map(asNode);
        const parts = [this.#comparison('>=', left, asNode(from)), this.#comparison('<=', left, asNode(to))];
        return negatedIf(kind === 'AEXPR_NOT_BETWEEN', (answers) => ({
          kind: 'and',
          parts: parts.map((part) => part(answers)),
        }));
      }
    }
    throw new NotCompilable(`it has the operator ${operator}`);
  }

  #comparison(operator: string, left: Node, right: Node): Drafted<Predicate> {
    if (!OPERATORS.has(operator)) throw new NotCompilable(`it has the operator ${operator}`);
    const [a, b] = this.#pair(left, right);
    const isOrder = operator !== '=' && operator !== '<>';
    return (answers) => ({
      kind: 'compare',
      operator: operator as Comparison,
      ...comparable(a(answers), b(answers), isOrder),
    });
  }

  #like(left: Node, right: Node, isNegated: boolean): Drafted<Predicate> {
    if (hasColumns(right)) throw new NotCompilable('it has a LIKE pattern that depends on the row');
    const text = this.#operand(left, right);
    const pattern = this.#pattern(right, this.#typeBesideUntyped(right, left));
    return negatedIf(isNegated, (answers) => ({
      kind: 'like',
      left: ofFamily(text(answers), 'text'),
      pattern: pattern(answers),
    }));
  }

  #pattern(tree: Node, type: string | undefined): Drafted<Pattern> {
    if (isNull(tree)) return () => ({ kind: 'constant', pattern: null });
    if (mayHaveAnyCharacter(tree) && !this.leaves.includes(HAS_OUR_CHARACTERS))
      this.leaves.push(HAS_OUR_CHARACTERS);
    const leaf = this.#leafOf(tree, false, type, true);
    return (answers) => {
      const pattern = answers(leaf) as Pattern & { readonly family: Family };
      if (pattern.family.name !== 'text') throw new NotCompilable('it uses a value of another type as text');
      return pattern;
    };
  }

  #in(left: Node, items: readonly unknown[]): Drafted<Predicate> {
    const one = this.#operand(left);
    const others = items.map((item) => this.#operand(asNode(item), left));
    return (answers) => {
      const operand = one(answers);
      const values = others.map((other) => comparable(operand, other(answers), false).right);
      const constants = values.flatMap((value) => (value.kind === 'constant' ? [value.value] : []));
      if (constants.length === values.length)
        return { kind: 'any', left: operand, list: { kind: 'constants', list: listOf(constants) } };
      return {
        kind: 'or',
        parts: values.map((right) => ({ kind: 'compare', operator: '=', left: operand, right })),
      };
    };
  }

  #any(left: Node, right: Node): Drafted<Predicate> {
    if (hasColumns(right)) throw new NotCompilable('it searches an array of the row');
    return this.#among(left, this.#leafOf(right, true));
  }

  #among(left: Node, list: number): Drafted<Predicate> {
    const operand = this.#operand(left);
    return (answers) => {
      const values = answers(list) as List & { readonly family: Family };
      const own = operand(answers);
      comparable(own, { kind: 'constant', value: null, family: values.family }, false);
      return { kind: 'any', left: own, list: values };
    };
  }

  #pair(left: Node, right: Node): [Drafted<Operand>, Drafted<Operand>] {
    return [this.#operand(left, right), this.#operand(right, left)];
  }

  /** Drafts one side of a comparison. `beside`: the other side, which gives an untyped literal its type. */
  #operand(tree: Node, beside?: Node): Drafted<Operand> {
    if (!hasColumns(tree)) return this.#leaf(tree, beside);
    const column = this.#column(tree);
    if (column !== undefined) return this.#columnOperand(column, column.family);
    const [kind, node] = only(tree);
    if (kind === 'TypeCast') return this.#castColumn(node);
    throw new NotCompilable('it computes with columns');
  }

  #columnOperand(column: ColumnFacts, family: string | null, asText = false): Drafted<Operand> {
    if (family === null)
      throw new NotCompilable(
        `column ${column.name} is of a type that only PostgreSQL compares (${column.type})`,
      );
    const operand: Operand = {
      kind: 'column',
      columnIndex: this.#table.columns.indexOf(column),
      family: familyOf(family),
      ...(asText ? { asText } : {}),
    };
    return () => operand;
  }

  /** Drafts a cast that does not change the column's value, or that reads the value as its text. */
  #castColumn({ arg, typeName }: Node): Drafted<Operand> {
    const column = this.#column(asNode(arg));
    const { names, typmods, arrayBounds } = asNode(typeName);
    const type = String(asNode(asNode(asList(names).at(-1)).String).sval);
    const isPlain = typmods === undefined && arrayBounds === undefined;
    if (column !== undefined && isPlain) {
      const { family, typeOid } = column;
      if (family === 'text' && TEXT_TYPES.has(type)) return this.#columnOperand(column, family);
      const [from, to] = [NUMBER_OIDS.get(typeOid), NUMBER_RANK.get(type)];
      if (from !== undefined && to !== undefined && from <= to) return this.#columnOperand(column, family);
      const isText = family === 'uuid' || family?.startsWith('enum ') || (from !== undefined && from < 4);
      if (isText && TEXT_TYPES.has(type)) return this.#columnOperand(column, 'text', true);
    }
    throw new NotCompilable(`it casts a column to ${type}`);
  }

  #leaf(tree: Node, beside?: Node): Drafted<Operand> {
    if (isNull(tree)) return () => ({ kind: 'constant', value: null, family: ANY_FAMILY });
    const type = beside === undefined ? undefined : this.#typeBesideUntyped(tree, beside);
    const leaf = this.#leafOf(tree, false, type);
    return (answers) => answers(leaf) as Operand;
  }

  /** A leaf that is a LIKE pattern is not shared with one that is a value. */
  #leafOf(tree: Node, isList: boolean, type?: string, isPattern = false): number {
    const printer = new ViewerExpressionPrinter(this.#known);
    const text = printer.print(tree);
    const sql = type === undefined ? text : `CAST(${text} AS ${type})`;
    const answer = plainAnswer(tree, type);
    const known = this.leaves.findIndex(
      (leaf, n) => leaf.sql === sql && leaf.isList === isList && this.patterns.has(n) === isPattern,
    );
    if (known >= 0) return known;
    const leaf = { sql, isList, isConstant: printer.isConstant };
    const added = this.leaves.push(answer === undefined ? leaf : { ...leaf, answer }) - 1;
    if (isPattern) this.patterns.add(added);
    return added;
  }

  /** Returns the type that an untyped literal gets beside another operand; undefined for a tree that has a type. */
  #typeBesideUntyped(tree: Node, beside: Node): string | undefined {
    if (!isUntyped(tree)) return undefined;
    const column = this.#column(beside);
    if (column === undefined) return 'pg_catalog.text';
    return plainTypeName(column.typeOid) ?? column.type;
  }

  #column(tree: Node): ColumnFacts | undefined {
    const fields = asList(asNode(tree.ColumnRef).fields).map((field) => asNode(asNode(field).String).sval);
    const isOurs = fields.length === 1 || (fields.length === 2 && fields[0] === this.#table.name);
    if (!isOurs) return undefined;
    const column = this.#table.columns.find(({ name }) => name === fields.at(-1));
    if (column?.generated != null) throw new NotCompilable(`column ${column.name} is generated`);
    return column;
  }
}

/** Returns undefined if the result is not compilable. */
function ifCompilable<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof NotCompilable || (error instanceof Error && error.name === 'ProtocolError'))
      return undefined;
    throw error;
  }
}

function isNull(tree: Node): boolean {
  return asNode(tree.A_Const).isnull === true;
}

/** Whether a LIKE pattern may have a `_`: a literal shows it. */
function mayHaveAnyCharacter(tree: Node): boolean {
  const { value } = plainAnswer(tree, 'text') ?? {};
  return typeof value !== 'string' || value.includes('_');
}

function isUntyped(tree: Node): boolean {
  return asNode(tree.A_Const).sval !== undefined;
}

function negatedIf(isNegated: boolean, part: Drafted<Predicate>): Drafted<Predicate> {
  return isNegated ? (answers) => ({ kind: 'not', part: part(answers) }) : part;
}

function comparable(left: Operand, right: Operand, isOrder: boolean): { left: Operand; right: Operand } {
  const [a, b] = [left.family, right.family];
  if (a !== ANY_FAMILY && b !== ANY_FAMILY && a.name !== b.name)
    throw new NotCompilable('it compares values of types that only PostgreSQL compares with each other');
  if (isOrder && !(a.isOrdered && b.isOrdered)) throw new NotCompilable('it orders texts');
  return { left, right };
}

function ofFamily(operand: Operand, name: string): Operand {
  if (operand.family !== ANY_FAMILY && operand.family.name !== name)
    throw new NotCompilable(`it uses a value of another type as ${name}`);
  return operand;
}

function only(tree: Node): [kind: string, node: Node] {
  const [[kind, node] = ['', undefined]] = Object.entries(tree);
  return [kind, asNode(node)];
}
