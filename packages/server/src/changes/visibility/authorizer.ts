import type { WalRelation } from '../../postgres/source/change-source.js';
import type { RowImage } from '../model/row-image.js';
import type { RowSnapshot } from '../model/row-snapshot.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Viewer } from '../model/viewer.js';
import type { Compilation } from './compiling/compiled-expression.js';
import type { ParameterValue } from './compiling/predicate.js';
import type { Deadline } from './deadline.js';
import type { RolePrivileges } from './role-privileges.js';

/** The rows of a batch to evaluate for one viewer. */
export interface EvaluationRequest {
  readonly viewer: Viewer;
  /** Indexes into the rows of the batch. */
  readonly rows: readonly number[];
}

/** The result of an evaluation. Rows are indexes into the batch. */
export interface EvaluationResult {
  readonly visible: ReadonlySet<number>;
  /** Rows whose evaluation raised an error or took too long. They are not visible. */
  readonly failed: ReadonlySet<number>;
  /** The deadline came before the result: nothing is known about the rows. */
  readonly undecided?: Undecided;
  /** The first error; missing where nothing failed. Never for clients: its text may hold values of the row. */
  readonly error?: EvaluationError;
  /** How long it took, in ms; missing where that is not measured. */
  readonly tookMs?: number;
}

/** Whether the evaluation took too long. It then says nothing of single rows: it failed on all of them. */
export function isTooSlow({ error }: EvaluationResult): boolean {
  return error?.sqlstate === TOO_SLOW.sqlstate;
}

/** PostgreSQL's error for a statement that it cancelled. */
export const TOO_SLOW: EvaluationError = {
  sqlstate: '57014',
  message: 'canceling statement due to statement timeout',
};

/** Why something is not decided before a deadline: it is `slow` itself, or it waited for something else. */
export type Undecided = 'slow' | 'behind';

/** What PostgreSQL says of an expression that it could not evaluate. */
export interface EvaluationError {
  readonly sqlstate: string;
  /** Its message, without DETAIL and CONTEXT. */
  readonly message: string;
}

/** A condition of a subscription, after it was checked (`checkCondition`). */
export interface Condition {
  /** Printed by our own printer: fully parenthesised, every name and literal quoted. */
  readonly sql: string;
  /** The names of the columns that it reads. */
  readonly columns: readonly string[];
}

/** A condition to evaluate on some rows of a batch. */
export interface ConditionRequest {
  readonly condition: Condition;
  /** Indexes into the rows of the batch. */
  readonly rows: readonly number[];
  /** Who is charged for it. Their conditions take turns. */
  readonly payers: readonly string[];
  /** Who sees the rows: a condition that is too slow is not evaluated for them again for a while; missing: for anybody. */
  readonly audience?: string | undefined;
}

/** The result of a condition, and what it cost. */
export interface ConditionResult extends EvaluationResult {
  readonly tookMs: number;
  /** The median time of the conditions in the same call, in ms. */
  readonly medianMs: number;
}

/** The parameters of compiled policies for one viewer. */
export interface ViewerParameters {
  readonly parameters: readonly ParameterValue[];
  /** The snapshot in which lists were read from tables. */
  readonly asOf: RowSnapshot;
}

/**
 * Decides which viewers may see which row versions. A caller passes the table facts that it works with to each call,
 * which throws StaleFacts if the catalog has changed since. With a deadline, an evaluation returns what is decided by
 * then, and all else throws NotDecided.
 */
export interface Authorizer {
  /**
   * Reads the facts of a table again if the stream has described the table in a new `relation`: PostgreSQL does before the
   * first change after its columns, policies, privileges or owner have changed.
   */
  described(relation: WalRelation): void;
  /** Returns the facts of a table by its oid; undefined if it does not exist any more. */
  facts(oid: number, deadline?: Deadline): Promise<TableFacts | undefined>;
  /** As `facts`, but asks PostgreSQL whether they are current. */
  current(oid: number): Promise<TableFacts | undefined>;
  /** Returns the privileges of a role on the table. */
  privileges(table: TableFacts, role: string, deadline?: Deadline): Promise<RolePrivileges>;
  /** Compiles a condition. (`privileges` has the compilation of policies.) */
  compileCondition(table: TableFacts, condition: Condition): Promise<Compilation>;
  /**
   * Evaluates the parameters of a role's compiled policies for each viewer. Undefined for a viewer for whom some cannot
   * be evaluated: PostgreSQL evaluates the policies for it. Throws StaleFacts while lists are read from tables and the
   * effects of the transactions `xids`, which were read from the WAL, are not visible to others yet.
   */
  evaluateParameters(
    table: TableFacts,
    role: string,
    viewers: readonly Viewer[],
    xids: readonly number[],
    deadline?: Deadline,
  ): Promise<readonly (ViewerParameters | Undecided | undefined)[]>;
  /**
   * Throws StaleFacts if these facts, or privileges on the tables, have changed, as far as the stream tells (`described`).
   * Where it cannot tell, and for `mustAsk`, asks PostgreSQL about all that they depend on. `xids`: transactions that may
   * have changed them after they had written a row; throws StaleFacts also while others do not see these yet.
   */
  verify(
    tables: readonly TableFacts[],
    xids: readonly number[],
    mustAsk: boolean,
    deadline?: Deadline,
  ): Promise<void>;
  /**
   * Evaluates conditions in PostgreSQL, each on its rows alone: one result for each request. The viewer does not matter, so
   * a caller asks only for rows that somebody sees who has the condition.
   */
  evaluateConditions(
    table: TableFacts,
    rows: readonly RowImage[],
    requests: readonly ConditionRequest[],
    deadline?: Deadline,
  ): Promise<ConditionResult[]>;
  /**
   * Evaluates policies in PostgreSQL: one result for each request. Only for roles whose rows are `filtered`. Throws
   * StaleFacts also while the effects of the transactions `xids` are not visible to others yet.
   */
  evaluatePolicies(
    table: TableFacts,
    rows: readonly RowImage[],
    requests: readonly EvaluationRequest[],
    xids: readonly number[],
    deadline?: Deadline,
  ): Promise<EvaluationResult[]>;
}

/** The catalog has changed: the caller reads facts and privileges again, and repeats the evaluation. */
export class StaleFacts extends Error {
  constructor() {
    super('the catalog has changed');
    this.name = 'StaleFacts';
  }
}
