import {
  asList,
  asNode,
  ExpressionPrinter,
  quotedName,
  unknownKeys,
} from '../../expressions/expression-printer.js';
import type { Node } from '../../expressions/parse-expression.js';
import type { TableFacts } from '../../model/table-facts.js';
import { NotCompilable } from './not-compilable.js';

/** What an expression may use besides built-in functions, by names as written in it, parts joined by a dot. */
export interface KnownNames {
  /** Functions without arguments whose result depends on the viewer's settings alone. */
  readonly functions: ReadonlySet<string>;
  readonly enums: ReadonlySet<string>;
  /** Tables by schema and name: facts if a sub-select may read the table, otherwise the reason why not. */
  readonly tables: ReadonlyMap<string, MembershipTable | string>;
}

/** A table whose changes are in the stream, so that lists read from it can be kept up to date. */
export interface MembershipTable extends Pick<TableFacts, 'oid' | 'columns'> {
  /** Whether the role sees all its rows. */
  readonly isOpen: boolean;
}

const SETTING = /^[a-z_][a-z0-9_$]*(?:\.[a-z_][a-z0-9_$]*)+$/i;
/** Functions of their arguments alone that policies may call and conditions may not. */
const MORE_FUNCTIONS: ReadonlySet<string> = new Set([
  'string_to_array',
  'array_remove',
  'json_extract_path_text',
  'jsonb_extract_path_text',
  'gcd',
  'initcap',
  'lcm',
  'replace',
  'translate',
  'upper',
]);
const MORE_TYPES: ReadonlySet<string> = new Set(['bit', 'varbit', 'timetz']);
const CURRENT_ROLE_OPS: ReadonlySet<unknown> = new Set([
  'SVFOP_CURRENT_USER',
  'SVFOP_CURRENT_ROLE',
  'SVFOP_USER',
]);

/**
 * Prints expressions that are the same for all rows: their value depends only on the settings and the role of a viewer.
 * Throws NotCompilable, or the refusal of a condition, for any other expression.
 */
export class ViewerExpressionPrinter extends ExpressionPrinter {
  readonly #known: KnownNames;
  #isConstant = true;

  constructor(known: KnownNames) {
    super([]);
    this.#known = known;
  }

  /** Whether the printed expression is the same for all viewers too. */
  get isConstant(): boolean {
    return this.#isConstant;
  }

  protected override printOther(kind: string, node: Node): string {
    if (kind === 'SQLValueFunction' && CURRENT_ROLE_OPS.has(node.op)) {
      this.#isConstant = false;
      return 'CURRENT_USER';
    }
    const expression = kind === 'SubLink' ? wrappedIn(node) : undefined;
    if (expression !== undefined) return this.print(expression);
    throw new NotCompilable(
      kind === 'SubLink' ? 'it has a sub-select' : 'it has an expression that only PostgreSQL evaluates',
    );
  }

  protected override otherType(names: readonly string[]): string {
    const builtIn = names.join('.').replace(/^pg_catalog\./, '');
    if (MORE_TYPES.has(builtIn)) return `pg_catalog.${quotedName(builtIn)}`;
    if (!this.#known.enums.has(names.join('.'))) throw new NotCompilable(`it casts to ${names.join('.')}`);
    return names.map(quotedName).join('.');
  }

  protected override otherOperator(names: readonly string[]): string {
    const operator = names.join('.');
    if (operator !== '||') throw new NotCompilable(`it has the operator ${operator}`);
    return operator;
  }

  protected override otherCall(names: readonly string[], args: readonly unknown[]): string {
    const name = names.join('.');
    const builtIn = name.replace(/^pg_catalog\./, '');
    if (builtIn === 'current_setting') return this.#setting(args);
    const printed = args.map((arg) => this.print(arg)).join(', ');
    if (MORE_FUNCTIONS.has(builtIn)) return `pg_catalog.${quotedName(builtIn)}(${printed})`;
    if (args.length > 0 || !this.#known.functions.has(name))
      throw new NotCompilable(`it calls ${name}(), which may depend on more than settings`);
    this.#isConstant = false;
    return `${names.map(quotedName).join('.')}()`;
  }

  /** Prints `current_setting(…)`. Settings with a dot in their name are the application's: only a viewer sets them. */
  #setting(args: readonly unknown[]): string {
    this.#isConstant = false;
    const [name] = args;
    const constant = asNode(asNode(name).A_Const ?? asNode(asNode(asNode(name).TypeCast).arg).A_Const);
    const setting = asNode(constant.sval).sval;
    if (typeof setting !== 'string' || !SETTING.test(setting))
      throw new NotCompilable('it reads a setting that is not an application setting');
    return `pg_catalog.current_setting(${args.map((arg) => this.print(arg)).join(', ')})`;
  }
}

/** Returns the expression of a sub-select such as `(SELECT auth.uid())`; undefined for any other. */
export function wrappedIn(sublink: Node): Node | undefined {
  if (sublink.subLinkType !== 'EXPR_SUBLINK') return undefined;
  const select = asNode(asNode(sublink.subselect).SelectStmt);
  const more = unknownKeys(select, ['targetList', 'limitOption', 'op']);
  const [target, ...others] = asList(select.targetList);
  const isPlain = select.limitOption === 'LIMIT_OPTION_DEFAULT' && select.op === 'SETOP_NONE';
  if (more.length > 0 || others.length > 0 || !isPlain) return undefined;
  return asNode(asNode(target).ResTarget).val as Node | undefined;
}
