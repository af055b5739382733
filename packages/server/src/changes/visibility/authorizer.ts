import type { RowImage } from '../model/row-image.js';
import type { RowSnapshot } from '../model/row-snapshot.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Viewer } from '../model/viewer.js';
import type { Compilation } from './compiling/compiled-expression.js';
import type { ParameterValue } from './compiling/predicate.js';
import type { RolePrivileges } from './role-privileges.js';

/** Which rows of a batch one context is to be judged on. */
export interface EvaluationRequest {
  readonly viewer: Viewer;
  /** Indexes into the rows of the batch. */
  readonly rows: readonly number[];
}

/** What a judgement over some rows of a batch gave. Rows are indexes into the batch. */
export interface EvaluationResult {
  readonly visible: ReadonlySet<number>;
  /** Those whose judgement raised an error or took too long: they are not visible. */
  readonly failed: ReadonlySet<number>;
  /** The first error; missing where nothing failed. Never for clients: its text may hold values of the row. */
  readonly error?: EvaluationError;
}

/** What PostgreSQL says of an expression that it could not evaluate. */
export interface EvaluationError {
  readonly sqlstate: string;
  /** Its message, without DETAIL and CONTEXT. */
  readonly message: string;
}

/** A condition that was checked when it was subscribed to (conditions/). */
export interface Condition {
  /** What our own printer made of it: fully parenthesised, every name and literal quoted. */
  readonly sql: string;
  /** The names of the columns that it reads. */
  readonly columns: readonly string[];
}

/** What the slots of compiled policies hold for a context. */
export interface ViewerParameters {
  readonly parameters: readonly ParameterValue[];
  /** Of which moment lists are that were read from tables. */
  readonly asOf: RowSnapshot;
}

/**
 * Decides who may see which row version. Facts are those of the catalog now; a caller hands the facts that it works
 * with to each call, and gets StaleFacts where the catalog has changed since.
 */
export interface Authorizer {
  /** The facts of a table by its oid; undefined where it is no more. */
  facts(oid: number): Promise<TableFacts | undefined>;
  /** As `facts`, and of now: PostgreSQL is asked whether they still hold. */
  current(oid: number): Promise<TableFacts | undefined>;
  /** What `role` may do with the table. */
  privileges(table: TableFacts, role: string): Promise<RolePrivileges>;
  /** Whether a condition is evaluated in process; of policies the rights say it. */
  compileCondition(table: TableFacts, condition: Condition): Promise<Compilation>;
  /**
   * What the slots of a role's compiled policies hold for each of these contexts; undefined for one for which some
   * cannot be evaluated: PostgreSQL judges it.
   */
  evaluateParameters(
    table: TableFacts,
    role: string,
    viewers: readonly Viewer[],
  ): Promise<readonly (ViewerParameters | undefined)[]>;
  /**
   * Throws StaleFacts where something has changed that these facts, or rights to them, come from, and while others do
   * not see yet what these transactions did, of which the log has told already.
   */
  verify(tables: readonly TableFacts[], xids: readonly number[]): Promise<void>;
  /** One verdict for each condition, over all rows, regardless of who asks. */
  evaluateConditions(
    table: TableFacts,
    rows: readonly RowImage[],
    evaluateConditions: readonly Condition[],
  ): Promise<EvaluationResult[]>;
  /** One verdict for each request; only for roles whose rights say `judged`. */
  evaluatePolicies(
    table: TableFacts,
    rows: readonly RowImage[],
    requests: readonly EvaluationRequest[],
  ): Promise<EvaluationResult[]>;
}

/** The catalog has changed: read facts and rights again, and judge again. */
export class StaleFacts extends Error {
  constructor() {
    super('the catalog has changed');
    this.name = 'StaleFacts';
  }
}
