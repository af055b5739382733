import type { Clock } from '../../../lib/clock.js';
import type { SqlSession } from '../../../postgres/connection/sql-session.js';
import type { WalRelation } from '../../../postgres/source/change-source.js';
import type { Sql } from '../../../postgres/sql/sql.js';
import type { RowImage } from '../../model/row-image.js';
import { RowSnapshot } from '../../model/row-snapshot.js';
import type { TableFacts } from '../../model/table-facts.js';
import { DEFAULT_DB_ROLE, settingsOf, type Viewer } from '../../model/viewer.js';
import { rowArrayLiteral } from '../../values/row-array-literal.js';
import type {
  Authorizer,
  Condition,
  ConditionRequest,
  ConditionResult,
  EvaluationError,
  EvaluationRequest,
  EvaluationResult,
  Undecided,
  ViewerParameters,
} from '../authorizer.js';
import type { Compilation, ParameterLeaf } from '../compiling/compiled-expression.js';
import { lookupKeys } from '../compiling/lookup-keys.js';
import type { Deadline } from '../deadline.js';
import type { RolePrivileges } from '../role-privileges.js';
import { StaleFacts } from '../stale-facts.js';
import { jsonOf } from './compile-expression.js';
import { callsByTurns, medianOfCall } from './condition-turns.js';
import {
  type AnswerRow,
  failedResult,
  type ParametersRow,
  parametersOf,
  type RowItem,
  resultOf,
  undecidedResult,
  withFailedRows,
} from './evaluation-answers.js';
import { type Call, EvaluationCalls, type Item, NotVisibleYet, type Question } from './evaluation-calls.js';
import type { EvaluationErrorLog } from './evaluation-error-log.js';
import { conditionsFunction, parametersFunction, policiesFunction } from './evaluation-function.js';
import { EvaluationSessions } from './evaluation-sessions.js';
import type { SlowEvaluation, SlowEvaluationLog } from './slow-evaluation-log.js';
import { SlowEvaluations } from './slow-evaluations.js';
import { TableCatalog } from './table-catalog.js';
import { unreadableRows } from './unreadable-rows.js';

interface SessionSource {
  openSession(purpose: string): Promise<SqlSession>;
}

export interface PostgresAuthorizerOptions {
  readonly database: Sql & SessionSource;
  /** Where sessions for evaluations are opened; missing: from `database`. */
  readonly sessions?: SessionSource;
  /** Where the session for conditions is opened, so that policies do not wait for them; missing: from `sessions`. */
  readonly conditionSessions?: SessionSource;
  /** False: policies are not applied; privileges on tables and columns are. */
  readonly enableRls: boolean;
  readonly clock: Clock;
  /** Where errors of policies and conditions are logged; missing: nowhere. */
  readonly errorLog?: EvaluationErrorLog;
  /** Where slow evaluations are logged; missing: nowhere. */
  readonly slowLog?: SlowEvaluationLog;
  /** SQL for whether the stream has all changes of the table `c`; missing: of no table. */
  readonly isStreamed?: () => string;
}

/** How items are evaluated on rows, and how they are logged. */
interface RowEvaluation extends Pick<SlowEvaluation, 'role' | 'policies'> {
  readonly calls: EvaluationCalls;
  readonly deadline: Deadline | undefined;
}

/** What is evaluated of compiled policies, and how they are logged. */
interface ParameterReading extends Pick<SlowEvaluation, 'role' | 'tier' | 'policies'> {
  readonly parameters: readonly ParameterLeaf[];
  readonly deadline: Deadline | undefined;
}

/**
 * How often the catalog is checked for changes that the stream does not describe, in ms: of functions, roles, their
 * memberships, enums, schemas, and tables that lists are read from.
 */
const CATALOG_CHECK_MS = 500;
/** How many calls run at once: one more than one that is slow. Snapshots keep a connection of the pool of replays. */
const SESSIONS = 2;
/** How long a session for live changes stays open without a call, in ms: a new one has to connect and to plan again. */
const IDLE_MS = 600_000;
/** The same where snapshots, or checks of conditions, wait for the same connections. */
const IDLE_IN_SHARED_POOL_MS = 200;
const CONDITIONS_AT_ONCE = 50;
const VIEWERS_AT_ONCE = 500;
/** A condition that costs nothing, to tell a slow condition from a slow database. */
const YARDSTICK = 'true';

/**
 * Has PostgreSQL evaluate policies and conditions on row images, many viewers and rows at once: correct for
 * every policy.
 */
export class PostgresAuthorizer implements Authorizer {
  readonly #catalog: TableCatalog;
  readonly #sessions: EvaluationSessions;
  readonly #slow: SlowEvaluations;
  readonly #calls: EvaluationCalls;
  readonly #conditionSessions: EvaluationSessions;
  readonly #conditionCalls: EvaluationCalls;
  /** Parameters that depend on the viewer alone. */
  readonly #parameters = new WeakMap<Compilation, WeakMap<Viewer, ViewerParameters | undefined>>();
  readonly #errorLog: EvaluationErrorLog | undefined;
  readonly #slowLog: SlowEvaluationLog | undefined;
  #timer: NodeJS.Timeout | undefined;

  /**
   * `sharesCatalogWith`: an authorizer whose catalog this one uses, and what it knows of slow evaluations; it evaluates in
   * sessions of its own.
   */
  constructor(
    {
      database,
      sessions = database,
      conditionSessions,
      enableRls,
      clock,
      errorLog,
      slowLog,
      isStreamed = () => 'false',
    }: PostgresAuthorizerOptions,
    sharesCatalogWith?: PostgresAuthorizer,
  ) {
    this.#errorLog = errorLog;
    this.#slowLog = slowLog;
    this.#catalog =
      sharesCatalogWith === undefined
        ? new TableCatalog(database, enableRls, isStreamed)
        : sharesCatalogWith.#catalog;
    this.#slow = sharesCatalogWith === undefined ? new SlowEvaluations(clock) : sharesCatalogWith.#slow;
    const idleMs = sharesCatalogWith === undefined ? IDLE_MS : IDLE_IN_SHARED_POOL_MS;
    this.#sessions = new EvaluationSessions(() => sessions.openSession('evaluate'), SESSIONS, idleMs);
    this.#calls = new EvaluationCalls(this.#sessions, this.#slow, clock);
    this.#conditionSessions =
      conditionSessions === undefined
        ? this.#sessions
        : new EvaluationSessions(
            () => conditionSessions.openSession('evaluate conditions'),
            1,
            IDLE_IN_SHARED_POOL_MS,
          );
    this.#conditionCalls = new EvaluationCalls(this.#conditionSessions, this.#slow, clock);
  }

  start(): void {
    const check = () => void this.#catalog.check().catch(() => undefined);
    this.#timer = setInterval(check, CATALOG_CHECK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#sessions.close();
    this.#conditionSessions.close();
  }

  async facts(oid: number, deadline?: Deadline): Promise<TableFacts | undefined> {
    const table = this.#catalog.table(oid);
    return (await (this.#catalog.hasTable(oid) ? table : withinTime(table, deadline)))?.facts;
  }

  async current(oid: number): Promise<TableFacts | undefined> {
    await this.#catalog.check([oid]);
    return this.facts(oid);
  }

  privileges(table: TableFacts, role: string, deadline?: Deadline): Promise<RolePrivileges> {
    const privileges = this.#catalog.privileges(table, role);
    return this.#catalog.hasPrivileges(table, role) ? privileges : withinTime(privileges, deadline);
  }

  compileCondition(table: TableFacts, { sql }: Condition): Promise<Compilation> {
    return this.#catalog.compileCondition(table, sql);
  }

  forgetAll(): void {
    this.#catalog.forgetAll();
  }

  /** Whether memberships were read from this table: then its changes must be streamed. */
  isMembershipTable(oid: number): boolean {
    return this.#catalog.membershipTables.has(oid);
  }

  described(relation: WalRelation): void {
    this.#catalog.described(relation);
  }

  async verify(
    tables: readonly TableFacts[],
    xids: readonly number[],
    mustAsk: boolean,
    deadline?: Deadline,
  ): Promise<void> {
    const catalog = this.#catalog;
    const asked = mustAsk ? tables : tables.filter((table) => !catalog.isCertain(table, xids));
    if (asked.length > 0) {
      const checking = catalog.check(asked.map(({ oid }) => oid));
      const snapshot = await withinTime(checking, deadline);
      if (!xids.every((xid) => snapshot?.sees(xid) === true)) throw new NotVisibleYet();
    }
    if (!tables.every((table) => catalog.isCurrent(table))) throw new StaleFacts();
  }

  async evaluateParameters(
    table: TableFacts,
    role: string,
    viewers: readonly Viewer[],
    xids: readonly number[],
    deadline?: Deadline,
  ): Promise<readonly (ViewerParameters | Undecided | undefined)[]> {
    const { policyCompilation, policies } = await this.#catalog.privileges(table, role);
    if (!('compiled' in policyCompilation)) throw new Error('the policies are not compiled');
    const { parameters, memberships, predicate } = policyCompilation.compiled;
    if (parameters.length === 0) return viewers.map(() => NO_PARAMETERS);
    const names = policies.map(({ name }) => name);
    const tier = lookupKeys(predicate) === undefined ? 'COMPILED' : 'INDEXED';
    const reading = { role, parameters, deadline, tier, policies: names } as const;
    // Memberships are read from tables, which change.
    if (memberships.length > 0) return this.#readParameters(table, reading, viewers, xids);
    const known =
      this.#parameters.get(policyCompilation) ?? new WeakMap<Viewer, ViewerParameters | undefined>();
    this.#parameters.set(policyCompilation, known);
    const unknown = viewers.filter((viewer) => !known.has(viewer));
    const found = await this.#readParameters(table, reading, unknown, []);
    const undecided = new Map<Viewer, Undecided>();
    for (const [n, viewer] of unknown.entries()) {
      const each = found[n];
      if (typeof each === 'string') undecided.set(viewer, each);
      else known.set(viewer, each);
    }
    return viewers.map((viewer) => undecided.get(viewer) ?? known.get(viewer));
  }

  async #readParameters(
    table: TableFacts,
    { role, parameters, deadline, tier, policies }: ParameterReading,
    viewers: readonly Viewer[],
    xids: readonly number[],
  ): Promise<readonly (ViewerParameters | Undecided | undefined)[]> {
    const { fingerprint } = this.#catalog.known(table);
    const values = parameters.map(({ leaf }) => jsonOf(leaf));
    const settingNames = settingNamesOf(viewers);
    const evaluation = parametersFunction({ facts: table, fingerprint, role, settingNames }, values);
    const evaluated = new Map<Viewer, ViewerParameters | Undecided | undefined>();
    const snapshots = new Map<string, RowSnapshot>();
    const items = viewers.map((viewer) => ({
      key: JSON.stringify([table.oid, 'parameters', viewer.key]),
      viewer,
      error: errorOf(viewer),
    }));
    for (let n = 0; n < items.length; n += VIEWERS_AT_ONCE) {
      const some = items.slice(n, n + VIEWERS_AT_ONCE);
      const question: Question<(typeof items)[number], ParametersRow> = {
        callFor: (asked) => ({
          evaluation,
          values: [
            xids,
            ...settingValuesOf(
              settingNames,
              asked.map(({ viewer }) => viewer),
            ),
          ],
        }),
        onRow: ({ viewer }, row) => evaluated.set(viewer, parametersOf(row, parameters, snapshots)),
        onError: () => undefined,
        onUndecided: ({ viewer }, why) => evaluated.set(viewer, why),
        onSlow: (ms) => this.#slowLog?.report({ table, role, tier, policies, ms }),
      };
      await this.#ask(this.#calls, table, some, question, deadline);
    }
    // A viewer whose parameters cannot be evaluated has none: PostgreSQL evaluates its policies.
    return viewers.map((viewer) => evaluated.get(viewer));
  }

  async evaluateConditions(
    table: TableFacts,
    rows: readonly RowImage[],
    requests: readonly ConditionRequest[],
    deadline?: Deadline,
  ): Promise<ConditionResult[]> {
    const { fingerprint } = this.#catalog.known(table);
    const subject = { facts: table, fingerprint, role: DEFAULT_DB_ROLE, settingNames: [] };
    const itemOf = (sql: string, own: readonly number[], audience = '') => ({
      key: JSON.stringify([table.oid, sql, audience]),
      rows: own,
      sql,
    });
    const yardstick = itemOf(YARDSTICK, [...rows.keys()]);
    const scope = { calls: this.#conditionCalls, role: DEFAULT_DB_ROLE, policies: [], deadline };
    const results = new Map<ConditionRequest, ConditionResult>();
    for (const call of callsByTurns(requests, CONDITIONS_AT_ONCE)) {
      const items = call.map(({ condition: { sql }, rows: own, audience }) => itemOf(sql, own, audience));
      const callFor = (asked: (typeof yardstick)[], literal: string) => ({
        evaluation: conditionsFunction(
          subject,
          asked.map(({ sql }) => sql),
        ),
        values: [literal, asked.map((item) => subsetOf(item, rows))],
      });
      const evaluated = await this.#evaluate(table, rows, [yardstick, ...items], callFor, scope);
      const [yardstickMs = 0, ...times] = evaluated.map(({ tookMs = 0 }) => tookMs);
      const medianMs = medianOfCall(call, times, yardstickMs);
      for (const [n, request] of call.entries()) {
        const result = evaluated[n + 1];
        if (result !== undefined) results.set(request, { ...result, tookMs: times[n] ?? 0, medianMs });
      }
    }
    this.#report(table, DEFAULT_DB_ROLE, [...results.values()], []);
    return requests.map((request) => {
      const result = results.get(request);
      if (result === undefined) throw new Error('PostgreSQL returned no result for a condition');
      return result;
    });
  }

  async evaluatePolicies(
    table: TableFacts,
    rows: readonly RowImage[],
    requests: readonly EvaluationRequest[],
    xids: readonly number[],
    deadline?: Deadline,
  ): Promise<EvaluationResult[]> {
    const role = requests[0]?.viewer.role;
    if (role === undefined) return [];
    if (requests.some(({ viewer }) => viewer.role !== role))
      throw new Error('the viewers have several roles');
    const { fingerprint } = this.#catalog.known(table);
    const { predicate, policies } = await this.#catalog.privileges(table, role);
    if (predicate === null) throw new Error('the role has no policies to evaluate');
    const settingNames = settingNamesOf(requests.map(({ viewer }) => viewer));
    const evaluation = policiesFunction({ facts: table, fingerprint, role, settingNames }, predicate);
    const items = requests.map(({ viewer, rows: own }) => ({
      key: JSON.stringify([table.oid, viewer.key]),
      rows: own,
      viewer,
      error: errorOf(viewer),
    }));
    const callFor = (asked: typeof items, literal: string) => ({
      evaluation,
      values: [
        xids,
        literal,
        asked.map((item) => subsetOf(item, rows)),
        ...settingValuesOf(
          settingNames,
          asked.map(({ viewer }) => viewer),
        ),
      ],
    });
    const names = policies.map(({ name }) => name);
    const scope = { calls: this.#calls, role, policies: names, deadline };
    const results = await this.#evaluate(table, rows, items, callFor, scope);
    this.#report(table, role, results, names);
    return results;
  }

  /**
   * Logs the errors of results. `policies`: the names of the evaluated policies; empty: conditions were
   * evaluated.
   */
  #report(
    table: TableFacts,
    role: string,
    results: readonly EvaluationResult[],
    policies: readonly string[],
  ): void {
    const raisedBy = policies.length === 0 ? 'condition' : 'policy';
    for (const { error } of results)
      if (error !== undefined) this.#errorLog?.report({ table, role, error, raisedBy, policies });
  }

  /**
   * Evaluates items on rows; returns the results in the order of the items. Rows that PostgreSQL cannot read
   * fail alone.
   */
  async #evaluate<T extends RowItem>(
    table: TableFacts,
    rows: readonly RowImage[],
    items: readonly T[],
    callFor: (asked: T[], rows: string) => Call,
    { calls, role, policies, deadline }: RowEvaluation,
  ): Promise<EvaluationResult[]> {
    const answers = new Map<T, EvaluationResult>();
    let literal = rowArrayLiteral(rows);
    let unreadable: ReadonlyMap<number, EvaluationError> | undefined;
    const question: Question<T, AnswerRow> = {
      callFor: (asked) => callFor([...asked], literal),
      onRow: (item, row) => answers.set(item, resultOf(row)),
      onError: (item, error, tookMs) => answers.set(item, failedResult(item, error, tookMs)),
      onUndecided: (item, why) => answers.set(item, undecidedResult(why)),
      onSlow: (ms) => this.#slowLog?.report({ table, role, policies, tier: 'POSTGRES', ms }),
      onFailure: async () => {
        if (unreadable !== undefined) return false;
        const found = await unreadableRows(rows, (some) => calls.errorOf(callFor([], some), deadline));
        literal = rowArrayLiteral(rows.map((row, n) => (found.has(n) ? null : row)));
        unreadable = found;
        return found.size > 0;
      },
    };
    await this.#ask(calls, table, items, question, deadline);
    return items.map((item) => {
      const result = answers.get(item);
      if (result === undefined) throw new Error('PostgreSQL returned no result for an item');
      return unreadable === undefined || result.undecided ? result : withFailedRows(result, item, unreadable);
    });
  }

  async #ask<T extends Item, Row extends { readonly item: number }>(
    calls: EvaluationCalls,
    table: TableFacts,
    items: readonly T[],
    question: Question<T, Row>,
    deadline: Deadline | undefined,
  ): Promise<void> {
    try {
      await calls.ask(items, question, deadline);
    } catch (error) {
      if (error instanceof StaleFacts && !(error instanceof NotVisibleYet)) this.#catalog.forget(table.oid);
      throw error;
    }
  }
}

function withinTime<T>(answer: Promise<T>, deadline: Deadline | undefined): Promise<T> {
  return deadline === undefined ? answer : deadline.within(answer);
}

/** Returns the numbers of the item's rows from 1, as an array of PostgreSQL; null: all rows. */
function subsetOf({ rows: own }: RowItem, rows: readonly RowImage[]): string | null {
  return own.length === rows.length ? null : `{${own.map((row) => row + 1).join()}}`;
}

/** Returns the names of the settings of viewers, which are the same for all. */
function settingNamesOf([first]: readonly Viewer[]): string[] {
  return first === undefined ? [] : settingsOf(first).map(({ name }) => name);
}

/** Returns for each setting its values of all viewers. */
function settingValuesOf(names: readonly string[], viewers: readonly Viewer[]): string[][] {
  const values = viewers.map((viewer) => settingsOf(viewer));
  return names.map((_, n) => values.map((settings) => settings[n]?.value ?? ''));
}

/** The parameters of policies without any. */
const NO_PARAMETERS: ViewerParameters = { parameters: [], asOf: new RowSnapshot('0:0:') };

/** As PostgreSQL says it of the first such character. */
const UNSTORABLE_USER: EvaluationError = {
  sqlstate: '22P05',
  message: 'the user id has a character that the encoding of the database does not have',
};

/** Returns why the policies of a viewer cannot be evaluated; undefined if they can. */
function errorOf({ isUnstorable }: Viewer): EvaluationError | undefined {
  return isUnstorable === true ? UNSTORABLE_USER : undefined;
}
