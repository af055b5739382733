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

/** What an expression may use beside the built-in functions: names as they stand in it, joined by a dot. */
export interface KnownNames {
  /** Functions without arguments whose result depends on a context's settings alone. */
  readonly functions: ReadonlySet<string>;
  readonly enums: ReadonlySet<string>;
  /** Tables that a sub-select may be of, by schema and name, or why it may not. */
  readonly tables: ReadonlyMap<string, MembershipTable | string>;
}

/** A table whose changes are told, so that what was read from it is known to be what is there. */
export interface MembershipTable extends Pick<TableFacts, 'oid' | 'columns'> {
  /** Whether the role sees all its rows. */
  readonly isOpen: boolean;
}

const SETTING = /^[a-z_][a-z0-9_$]*(?:\.[a-z_][a-z0-9_$]*)+$/i;
/** Functions of their arguments alone that conditions have no need of. */
const MORE_FUNCTIONS: ReadonlySet<string> = new Set([
  'string_to_array',
  'array_remove',
  'json_extract_path_text',
  'jsonb_extract_path_text',
]);
const WHO: ReadonlySet<unknown> = new Set(['SVFOP_CURRENT_USER', 'SVFOP_CURRENT_ROLE', 'SVFOP_USER']);

/**
 * Prints expressions that are the same for all rows: what they come to depends on the settings and the role of a
 * context, and on nothing else. Throws NotExact, or the refusal of a condition, for any other.
 */
export class ViewerExpressionPrinter extends ExpressionPrinter {
  readonly #known: KnownNames;
  #isConstant = true;

  constructor(known: KnownNames) {
    super([]);
    this.#known = known;
  }

  /** Whether what was printed is the same for all contexts as well. */
  get isConstant(): boolean {
    return this.#isConstant;
  }

  protected override printOther(kind: string, node: Node): string {
    if (kind === 'SQLValueFunction' && WHO.has(node.op)) {
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
    if (!this.#known.enums.has(names.join('.'))) throw new NotCompilable(`it casts to ${names.join('.')}`);
    return names.map(quotedName).join('.');
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

  /** Settings with a dot in their names are those of applications: nobody but a context sets them. */
  #setting(args: readonly unknown[]): string {
    this.#isConstant = false;
    const [name] = args;
    const constant = asNode(asNode(name).A_Const ?? asNode(asNode(asNode(name).TypeCast).arg).A_Const);
    const setting = asNode(constant.sval).sval;
    if (typeof setting !== 'string' || !SETTING.test(setting))
      throw new NotCompilable('it reads a setting that is not one of applications');
    return `pg_catalog.current_setting(${args.map((arg) => this.print(arg)).join(', ')})`;
  }
}

/** The expression that is all of a sub-select: `(SELECT auth.uid())`; undefined for any other. */
export function wrappedIn(sublink: Node): Node | undefined {
  if (sublink.subLinkType !== 'EXPR_SUBLINK') return undefined;
  const select = asNode(asNode(sublink.subselect).SelectStmt);
  const more = unknownKeys(select, ['targetList', 'limitOption', 'op']);
  const [target, ...others] = asList(select.targetList);
  const isPlain = select.limitOption === 'LIMIT_OPTION_DEFAULT' && select.op === 'SETOP_NONE';
  if (more.length > 0 || others.length > 0 || !isPlain) return undefined;
  return asNode(asNode(target).ResTarget).val as Node | undefined;
}
