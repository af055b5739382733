import type { Clock } from '../../../lib/clock.js';
import type { SqlSession } from '../../../postgres/connection/sql-session.js';
import type { WalRelation } from '../../../postgres/source/change-source.js';
import type { Sql } from '../../../postgres/sql/sql.js';
import type { RowImage } from '../../model/row-image.js';
import { RowSnapshot } from '../../model/row-snapshot.js';
import type { TableFacts } from '../../model/table-facts.js';
import { DEFAULT_DB_ROLE, settingsOf, type Viewer } from '../../model/viewer.js';
import { rowArrayLiteral } from '../../values/row-array-literal.js';
import {
  type Authorizer,
  type Condition,
  type EvaluationError,
  type EvaluationRequest,
  type EvaluationResult,
  StaleFacts,
  type ViewerParameters,
} from '../authorizer.js';
import type { Compilation, ParameterLeaf } from '../compiling/compiled-expression.js';
import { NotCompilable } from '../compiling/not-compilable.js';
import type { RolePrivileges } from '../role-privileges.js';
import { jsonOf } from './compile-expression.js';
import type { EvaluationErrorLog } from './evaluation-error-log.js';
import {
  conditionsFunction,
  type EvaluationFunction,
  parametersFunction,
  policiesFunction,
} from './evaluation-function.js';
import { EvaluationSession } from './evaluation-session.js';
import { TableCatalog } from './table-catalog.js';

export interface PostgresAuthorizerOptions {
  readonly database: Sql & { openSession(purpose: string): Promise<SqlSession> };
  /** False: policies are not applied; privileges on tables and columns are. */
  readonly enableRls: boolean;
  readonly clock: Clock;
  /** Where errors of policies and conditions are logged; missing: nowhere. */
  readonly errorLog?: EvaluationErrorLog;
  /** SQL for whether the stream has all changes of the table `c`; missing: of no table. */
  readonly isStreamed?: () => string;
}

/** Time limits of an evaluation: of a group, and of one item that was too slow in a group, in ms. */
const GROUP_TIMEOUT_MS = 2_000;
const SINGLE_TIMEOUT_MS = 1_000;
/** How long an item that was too slow alone is not evaluated again, in ms. */
const SUSPENDED_MS = 30_000;
/**
 * How often the catalog is checked for changes that the stream does not describe, in ms: of functions, roles, their
 * memberships, enums, schemas, and tables that lists are read from.
 */
const CATALOG_CHECK_MS = 500;
const CONDITIONS_AT_ONCE = 50;
const VIEWERS_AT_ONCE = 500;

interface AnswerRow {
  readonly item: number;
  readonly visible: readonly number[] | null;
  readonly failed: readonly number[] | null;
  /** Of the first row that failed; of an earlier item where none did. */
  readonly error_state: string | null;
  readonly error_text: string | null;
}

interface ParametersRow {
  readonly item: number;
  /** The values, followed by the snapshot that they were read in. */
  readonly parameters: readonly (string | readonly (string | null)[] | null)[] | null;
}

/** A viewer or a condition to evaluate. */
interface Item {
  /** Equal items are equally slow. */
  readonly key: string;
  readonly rows: readonly number[];
}

/**
 * Has PostgreSQL evaluate policies and conditions on row images, many viewers and rows at once: correct for
 * every policy.
 */
export class PostgresAuthorizer implements Authorizer {
  readonly #catalog: TableCatalog;
  readonly #session: EvaluationSession;
  /** Parameters that depend on the viewer alone. */
  readonly #parameters = new WeakMap<Compilation, WeakMap<Viewer, ViewerParameters | undefined>>();
  readonly #clock: Clock;
  readonly #errorLog: EvaluationErrorLog | undefined;
  /** The items that were too slow, with the time until which they count as failed. */
  readonly #suspended = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  /** `sharesCatalogWith`: an authorizer whose catalog this one uses; it evaluates in a session of its own. */
  constructor(
    { database, enableRls, clock, errorLog, isStreamed = () => 'false' }: PostgresAuthorizerOptions,
    sharesCatalogWith?: PostgresAuthorizer,
  ) {
    this.#clock = clock;
    this.#errorLog = errorLog;
    this.#catalog =
      sharesCatalogWith === undefined
        ? new TableCatalog(database, enableRls, isStreamed, clock)
        : sharesCatalogWith.#catalog;
    this.#session = new EvaluationSession(() => database.openSession('evaluate'));
  }

  start(): void {
    const check = () => void this.#catalog.check().catch(() => undefined);
    this.#timer = setInterval(check, CATALOG_CHECK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#session.close();
  }

  async facts(oid: number): Promise<TableFacts | undefined> {
    return (await this.#catalog.table(oid))?.facts;
  }

  async current(oid: number): Promise<TableFacts | undefined> {
    await this.#catalog.check([oid]);
    return this.facts(oid);
  }

  privileges(table: TableFacts, role: string): Promise<RolePrivileges> {
    return this.#catalog.privileges(table, role);
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

  async verify(tables: readonly TableFacts[]): Promise<void> {
    const oids: number[] = [];
    for (const { oid } of tables) if (await this.#catalog.isUnsettled(oid)) oids.push(oid);
    if (oids.length > 0 && !(await this.#catalog.check(oids))) throw new StaleFacts();
    // The catalog may have been read again since, in a later state than these facts.
    for (const table of tables) if ((await this.facts(table.oid)) !== table) throw new StaleFacts();
  }

  async evaluateParameters(
    table: TableFacts,
    role: string,
    viewers: readonly Viewer[],
    xids: readonly number[],
  ): Promise<readonly (ViewerParameters | undefined)[]> {
    const { policyCompilation } = await this.#catalog.privileges(table, role);
    if (!('compiled' in policyCompilation)) throw new Error('the policies are not compiled');
    const { parameters, memberships } = policyCompilation.compiled;
    if (parameters.length === 0) return viewers.map(() => NO_PARAMETERS);
    // Memberships are read from tables, which change.
    if (memberships.length > 0) return this.#evaluateParameters(table, role, parameters, viewers, xids);
    const known =
      this.#parameters.get(policyCompilation) ?? new WeakMap<Viewer, ViewerParameters | undefined>();
    this.#parameters.set(policyCompilation, known);
    const unknown = viewers.filter((viewer) => !known.has(viewer));
    const found = await this.#evaluateParameters(table, role, parameters, unknown, []);
    for (const [n, viewer] of unknown.entries()) known.set(viewer, found[n]);
    return viewers.map((viewer) => known.get(viewer));
  }

  async #evaluateParameters(
    table: TableFacts,
    role: string,
    parameters: readonly ParameterLeaf[],
    viewers: readonly Viewer[],
    xids: readonly number[],
  ): Promise<readonly (ViewerParameters | undefined)[]> {
    const { fingerprint } = this.#catalog.known(table);
    const values = parameters.map(({ leaf }) => jsonOf(leaf));
    const settingNames = settingNamesOf(viewers);
    const evaluation = parametersFunction({ facts: table, fingerprint, role, settingNames }, values);
    const evaluated = new Map<Viewer, ViewerParameters | undefined>();
    const snapshots = new Map<string, RowSnapshot>();
    const items = viewers.map((viewer) => ({
      key: JSON.stringify([table.oid, 'parameters', viewer.key]),
      viewer,
    }));
    const callFor = (asked: readonly (typeof items)[number][]) => ({
      evaluation,
      values: [xids, ...settingValuesOf(asked.map(({ viewer }) => viewer))],
    });
    for (let n = 0; n < items.length; n += VIEWERS_AT_ONCE) {
      const asked = this.#withoutSuspended(items.slice(n, n + VIEWERS_AT_ONCE));
      await this.#ask<(typeof items)[number], ParametersRow>(
        table,
        asked,
        callFor,
        GROUP_TIMEOUT_MS,
        ({ viewer }, row) => evaluated.set(viewer, parametersOf(row, parameters, snapshots)),
      );
    }
    // A viewer whose parameters take too long has none: PostgreSQL evaluates its policies.
    return viewers.map((viewer) => evaluated.get(viewer));
  }

  async evaluateConditions(
    table: TableFacts,
    rows: readonly RowImage[],
    conditions: readonly Condition[],
  ): Promise<EvaluationResult[]> {
    const { fingerprint } = this.#catalog.known(table);
    const subject = { facts: table, fingerprint, role: DEFAULT_DB_ROLE, settingNames: [] };
    const all = rows.map((_, n) => n);
    const literal = rowArrayLiteral(rows);
    const results: EvaluationResult[] = [];
    for (let n = 0; n < conditions.length; n += CONDITIONS_AT_ONCE) {
      const some = conditions.slice(n, n + CONDITIONS_AT_ONCE);
      const items = some.map(({ sql }) => ({ key: JSON.stringify([table.oid, sql]), rows: all, sql }));
      const evaluated = await this.#evaluate(table, items, (asked) => ({
        evaluation: conditionsFunction(
          subject,
          asked.map(({ sql }) => sql),
        ),
        values: [literal],
      }));
      results.push(...evaluated);
    }
    this.#report(table, DEFAULT_DB_ROLE, results, []);
    return results;
  }

  async evaluatePolicies(
    table: TableFacts,
    rows: readonly RowImage[],
    requests: readonly EvaluationRequest[],
    xids: readonly number[],
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
    const literal = rowArrayLiteral(rows);
    const items = requests.map(({ viewer, rows: own }) => ({
      key: JSON.stringify([table.oid, viewer.key]),
      rows: own,
      viewer,
    }));
    const results = await this.#evaluate(table, items, (asked) => ({
      evaluation,
      values: [
        xids,
        literal,
        asked.map(({ rows: own }) =>
          own.length === rows.length ? null : `{${own.map((row) => row + 1).join()}}`,
        ),
        ...settingValuesOf(asked.map(({ viewer }) => viewer)),
      ],
    }));
    this.#report(
      table,
      role,
      results,
      policies.map(({ name }) => name),
    );
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

  /** Evaluates the items that are not suspended; returns the results in the order of the items. */
  async #evaluate<T extends Item>(
    table: TableFacts,
    items: readonly T[],
    callFor: (asked: readonly T[]) => { evaluation: EvaluationFunction; values: unknown[] },
  ): Promise<EvaluationResult[]> {
    const answers = new Map<T, EvaluationResult>();
    await this.#ask<T, AnswerRow>(
      table,
      this.#withoutSuspended(items),
      callFor,
      GROUP_TIMEOUT_MS,
      (item, row) => answers.set(item, resultOf(row)),
    );
    return items.map(
      (item) => answers.get(item) ?? { visible: new Set(), failed: new Set(item.rows), error: TOO_SLOW },
    );
  }

  /** The items that have not been too slow recently. */
  #withoutSuspended<T extends { readonly key: string }>(items: readonly T[]): T[] {
    const now = this.#clock();
    return items.filter(({ key }) => (this.#suspended.get(key) ?? 0) <= now);
  }

  /**
   * Evaluates items in one call; an item that takes too long is evaluated again alone, and those after it in
   * another call.
   */
  async #ask<T extends { readonly key: string }, Row extends { readonly item: number }>(
    table: TableFacts,
    asked: readonly T[],
    callFor: (asked: readonly T[]) => { evaluation: EvaluationFunction; values: unknown[] },
    timeoutMs: number,
    onRow: (item: T, row: Row) => void,
  ): Promise<void> {
    if (asked.length === 0) return;
    const { evaluation, values } = callFor(asked);
    const rows = await this.#session.call<Row>(evaluation, values, timeoutMs);
    for (const row of rows) {
      const item = asked[row.item - 1];
      if (item !== undefined) onRow(item, row);
    }
    const last = rows.at(-1)?.item ?? 0;
    if (last === asked.length) return;
    if (last >= 0) {
      // Without any item, the fingerprint has changed; with the item 0, transactions are not visible yet.
      if (rows.length === 0) this.#catalog.forget(table.oid);
      throw new StaleFacts();
    }
    const slow = asked.slice(-last - 1, -last);
    const rest = asked.slice(-last);
    const [slowItem] = slow;
    if (slowItem !== undefined && asked.length === 1) this.#suspend(slowItem.key);
    else await this.#ask(table, slow, callFor, SINGLE_TIMEOUT_MS, onRow);
    await this.#ask(table, rest, callFor, GROUP_TIMEOUT_MS, onRow);
  }

  #suspend(key: string): void {
    const now = this.#clock();
    for (const [other, until] of this.#suspended) if (until <= now) this.#suspended.delete(other);
    this.#suspended.set(key, now + SUSPENDED_MS);
  }
}

/** Returns the names of the settings of viewers, which are the same for all. */
function settingNamesOf([first]: readonly Viewer[]): string[] {
  return first === undefined ? [] : settingsOf(first).map(({ name }) => name);
}

/** Returns for each setting its values of all viewers. */
function settingValuesOf(viewers: readonly Viewer[]): string[][] {
  const values = viewers.map((viewer) => settingsOf(viewer));
  return (values[0] ?? []).map((_, n) => values.map((settings) => settings[n]?.value ?? ''));
}

/** The parameters of policies without any. */
const NO_PARAMETERS: ViewerParameters = { parameters: [], asOf: new RowSnapshot('0:0:') };

/** `snapshots`: the snapshots parsed so far, by their text, since most viewers share one. */
function parametersOf(
  { parameters: values }: ParametersRow,
  parameters: readonly ParameterLeaf[],
  snapshots: Map<string, RowSnapshot>,
): ViewerParameters | undefined {
  if (values === null) return undefined;
  const text = String(values[parameters.length]);
  const asOf = snapshots.get(text) ?? new RowSnapshot(text);
  snapshots.set(text, asOf);
  try {
    return { parameters: parameters.map(({ read }, n) => read(values[n] ?? null)), asOf };
  } catch (error) {
    if (error instanceof NotCompilable) return undefined;
    throw error;
  }
}

/** PostgreSQL's error for a statement that it cancelled, which the functions do not return. */
const TOO_SLOW: EvaluationError = {
  sqlstate: '57014',
  message: 'canceling statement due to statement timeout',
};

function resultOf({
  visible,
  failed,
  error_state: sqlstate,
  error_text: message,
}: AnswerRow): EvaluationResult {
  const result = { visible: numbers(visible), failed: numbers(failed) };
  if (result.failed.size === 0 || sqlstate === null) return result;
  return { ...result, error: { sqlstate, message: message ?? '' } };
}

/** Converts numbers from 1 to indexes from 0. */
function numbers(from: readonly number[] | null): ReadonlySet<number> {
  return new Set((from ?? []).map((row) => row - 1));
}
