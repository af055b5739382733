import { TickBudget } from '../../lib/tick-budget.js';
import type { TableViewer } from '../model/recipient-group.js';
import type { Authorizer, EvaluationRequest, EvaluationResult, Undecided } from '../visibility/authorizer.js';
import type { Deadline } from '../visibility/deadline.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';
import type { FilterMatches } from './filter-matches.js';
import type { EvaluateParameters, RoleRecipients } from './role-recipients.js';
import { type DecodedChange, NO_ROW, type TableBatch } from './table-batch.js';

type Evaluator = Pick<Authorizer, 'evaluatePolicies' | 'evaluateParameters'>;

/** Evaluates the policies on the row versions of a table batch, for all viewers of one role. */
export class RowVisibility {
  /** How many row versions the policies were evaluated on. */
  readonly evaluatedCount: number;
  /** The rows on which a policy raised an error, by viewer. */
  readonly failed = new Map<TableViewer, ReadonlySet<number>>();
  /** The viewers of whom it is not known before the deadline what they see. */
  readonly undecided = new Map<TableViewer, Undecided>();
  readonly #isKnown: (row: number) => boolean;
  readonly #viewers: ReadonlyMap<string, TableViewer>;
  /** The viewers that see each row, for the rows that are evaluated. */
  readonly #visibleTo = new Map<number, Set<TableViewer>>();

  private constructor(
    tableBatch: TableBatch,
    matches: FilterMatches,
    recipients: RoleRecipients,
    privileges: RolePrivileges,
  ) {
    const required = tableBatch.layout.requiredIndexes(privileges.reads);
    this.#isKnown = (row) => required !== null && row !== NO_ROW && tableBatch.hasColumns(row, required);
    this.#viewers = recipients.viewers;
    const matching = tableBatch.changes.filter((change) => matches.hasMatch(change));
    for (const { oldRow, newRow } of matching)
      for (const row of [oldRow, newRow]) if (this.#isKnown(row)) this.#visibleTo.set(row, new Set());
    this.evaluatedCount = this.#visibleTo.size;
  }

  /**
   * Finds viewers in the index if the policies are compiled; PostgreSQL evaluates the policies for all
   * others, and on rows that have no steps left to decide them. `xids`: the transactions of the whole batch.
   */
  static async of(
    authorizer: Evaluator,
    tableBatch: TableBatch,
    matches: FilterMatches,
    recipients: RoleRecipients,
    privileges: RolePrivileges,
    xids: readonly number[],
    deadline?: Deadline,
  ): Promise<RowVisibility> {
    const visibility = new RowVisibility(tableBatch, matches, recipients, privileges);
    if (visibility.#visibleTo.size === 0) return visibility;
    const { facts } = tableBatch.layout;
    const inPostgres = new Map<TableViewer, RowChoice>();
    if ('compiled' in privileges.policyCompilation) {
      const role = roleOf(recipients);
      const evaluateParameters: EvaluateParameters = (viewers, applied) =>
        authorizer.evaluateParameters(facts, role, viewers, [...applied, ...xids], deadline);
      const indexed = await recipients.indexViewers(privileges.policyCompilation, evaluateParameters);
      for (const [tableViewer, why] of indexed.undecided) visibility.undecided.set(tableViewer, why);
      const ticks = new TickBudget();
      for (const [row, visibleTo] of visibility.#visibleTo) {
        if (ticks.isUsedUp) await ticks.nextTick();
        const onUndecided = (tableViewer: TableViewer) => addRow(inPostgres, tableViewer, row);
        for (const tableViewer of indexed.index.find(tableBatch.typedRow(row), onUndecided))
          visibleTo.add(tableViewer);
      }
      for (const tableViewer of indexed.inPostgres) inPostgres.set(tableViewer, 'all');
    } else for (const tableViewer of recipients.viewers.values()) inPostgres.set(tableViewer, 'all');
    const evaluate = (requests: readonly EvaluationRequest[]) =>
      authorizer.evaluatePolicies(facts, tableBatch.rows, requests, xids, deadline);
    await visibility.#evaluateInPostgres(evaluate, tableBatch, matches, inPostgres);
    return visibility;
  }

  /** Returns the viewers that see a version of the row; for a TRUNCATE, all viewers. */
  viewersOf({ streamed, oldRow, newRow }: DecodedChange): Iterable<TableViewer> {
    if (streamed.kind === 'truncate') return this.#viewers.values();
    const old = this.#visibleTo.get(oldRow) ?? NO_VIEWERS;
    const now = this.#visibleTo.get(newRow) ?? NO_VIEWERS;
    if (old.size === 0) return now;
    return now.size === 0 ? old : new Set([...old, ...now]);
  }

  /** The viewers that see a row. */
  seersOf(row: number): ReadonlySet<TableViewer> {
    return this.#visibleTo.get(row) ?? NO_VIEWERS;
  }

  /**
   * Whether the viewer sees a row; undefined: unknown, since the WAL lacks columns that the policies read.
   */
  isVisible(tableViewer: TableViewer, row: number): boolean | undefined {
    return this.#isKnown(row) ? this.#visibleTo.get(row)?.has(tableViewer) === true : undefined;
  }

  async #evaluateInPostgres(
    evaluate: (requests: readonly EvaluationRequest[]) => Promise<readonly EvaluationResult[]>,
    tableBatch: TableBatch,
    matches: FilterMatches,
    viewers: ReadonlyMap<TableViewer, RowChoice>,
  ): Promise<void> {
    const requestedRows = new RequestedRows(tableBatch, matches, (row) => this.#visibleTo.has(row));
    const requested = [...viewers].flatMap(([tableViewer, choice]) => {
      const matching = requestedRows.rowsFor(tableViewer);
      const rows = choice === 'all' ? matching : matching.filter((row) => choice.has(row));
      return rows.length === 0 ? [] : [{ tableViewer, request: { viewer: tableViewer.viewer, rows } }];
    });
    if (requested.length === 0) return;
    const results = await evaluate(requested.map(({ request }) => request));
    for (const [n, { tableViewer }] of requested.entries()) this.#record(tableViewer, results[n]);
  }

  #record(tableViewer: TableViewer, result: EvaluationResult | undefined): void {
    if (result === undefined) throw new Error('The authorizer returned no result for a viewer');
    if (result.undecided !== undefined) this.undecided.set(tableViewer, result.undecided);
    for (const row of result.visible) this.#visibleTo.get(row)?.add(tableViewer);
    if (result.failed.size > 0) this.failed.set(tableViewer, result.failed);
  }
}

const NO_VIEWERS: ReadonlySet<TableViewer> = new Set();

/** The rows on which PostgreSQL evaluates the policies for a viewer. */
type RowChoice = 'all' | Set<number>;

function addRow(choices: Map<TableViewer, RowChoice>, tableViewer: TableViewer, row: number): void {
  const chosen = choices.get(tableViewer);
  if (chosen === undefined) choices.set(tableViewer, new Set([row]));
  else if (chosen !== 'all') chosen.add(row);
}

function roleOf({ viewers }: RoleRecipients): string {
  for (const { viewer } of viewers.values()) return viewer.role;
  throw new Error('A role without recipients cannot be evaluated');
}

/**
 * Selects the rows that PostgreSQL evaluates for a viewer: those that match a subscription of one of its
 * groups. Shared groups of a channel match the same rows, which are computed once.
 */
class RequestedRows {
  readonly #tableBatch: TableBatch;
  readonly #matches: FilterMatches;
  readonly #isEvaluated: (row: number) => boolean;
  readonly #rowsByChannel = new Map<string, readonly number[]>();

  constructor(tableBatch: TableBatch, matches: FilterMatches, isEvaluated: (row: number) => boolean) {
    this.#tableBatch = tableBatch;
    this.#matches = matches;
    this.#isEvaluated = isEvaluated;
  }

  rowsFor({ groups }: TableViewer): readonly number[] {
    const all = [...groups].map((group) => {
      if (group.owner !== undefined) return this.#rowsForGroup(group);
      const { name } = group.channel;
      const rows = this.#rowsByChannel.get(name) ?? this.#rowsForGroup(group);
      this.#rowsByChannel.set(name, rows);
      return rows;
    });
    const [first = [], ...others] = all;
    return others.length === 0 ? first : [...new Set(all.flat())];
  }

  #rowsForGroup(group: Parameters<FilterMatches['of']>[1]): readonly number[] {
    const rows = new Set<number>();
    for (const change of this.#tableBatch.changes) {
      const match = this.#matches.of(change, group);
      if (match === undefined) continue;
      const { oldSubscriptions, newSubscriptions } = match;
      if (oldSubscriptions.length > 0 && this.#isEvaluated(change.oldRow)) rows.add(change.oldRow);
      if (newSubscriptions.length > 0 && this.#isEvaluated(change.newRow)) rows.add(change.newRow);
    }
    return [...rows];
  }
}
