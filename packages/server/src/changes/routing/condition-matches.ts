import { TickBudget } from '../../lib/tick-budget.js';
import type { Authorizer, EvaluationResult, Undecided } from '../visibility/authorizer.js';
import type { ParameterValue } from '../visibility/compiling/predicate.js';
import type { Deadline } from '../visibility/deadline.js';
import type { ConditionGroup, SubscriptionEntry, SubscriptionIndex } from './subscription-index.js';
import type { TableBatch } from './table-batch.js';

/** A condition that raised an error, or took too long, on some rows. */
export interface FailedCondition {
  readonly group: ConditionGroup;
  readonly rows: ReadonlySet<number>;
}

type Evaluator = Pick<Authorizer, 'evaluateConditions'>;

/**
 * Evaluates the conditions of all subscriptions to a table on the rows of a table batch, once: in process where they are
 * compiled, in PostgreSQL the others, and also a compiled one on a row that has no steps left to decide it.
 */
export class ConditionMatches {
  /** For each row, the entries with a condition that is true of it. */
  readonly #entries: readonly Set<SubscriptionEntry>[];
  readonly #tableBatch: TableBatch;
  readonly #failed: FailedCondition[] = [];
  /** The conditions of which it is not known at the deadline where they are true. */
  readonly undecided = new Map<ConditionGroup, Undecided>();
  /** The indexes, in catalog order, of the columns that conditions read. */
  readonly #requiredIndexes = new Map<readonly string[], readonly number[] | null>();

  private constructor(tableBatch: TableBatch) {
    this.#tableBatch = tableBatch;
    this.#entries = tableBatch.rows.map(() => new Set());
  }

  static async of(
    authorizer: Evaluator,
    tableBatch: TableBatch,
    subscriptions: SubscriptionIndex,
    deadline?: Deadline,
  ): Promise<ConditionMatches> {
    const matches = new ConditionMatches(tableBatch);
    const all = new Set(tableBatch.rows.keys());
    const inPostgres = new Map(subscriptions.groupsInPostgres.map((group) => [group, all]));
    await matches.#evaluateInPostgres(authorizer, inPostgres, deadline);
    const undecided = await matches.#evaluateInProcess(subscriptions);
    await matches.#evaluateInPostgres(authorizer, undecided, deadline);
    return matches;
  }

  /** The conditions that failed on rows that have the columns they read. */
  get failed(): readonly FailedCondition[] {
    return this.#failed;
  }

  /** The entries with a condition that is true of the row. */
  of(row: number): ReadonlySet<SubscriptionEntry> {
    return this.#entries[row] ?? NONE;
  }

  /** Whether the values of the columns that a condition reads are known. */
  hasColumns(row: number, columns: readonly string[]): boolean {
    let required = this.#requiredIndexes.get(columns);
    if (required === undefined) {
      required = this.#tableBatch.layout.requiredIndexes(columns);
      this.#requiredIndexes.set(columns, required);
    }
    return required !== null && this.#tableBatch.hasColumns(row, required);
  }

  /**
   * Returns the conditions that are not decided, with the rows on which they are not. A row gets the steps of further ticks
   * before that, since PostgreSQL needs some hundred times as long for the same patterns, and all later changes wait for it.
   */
  async #evaluateInProcess(subscriptions: SubscriptionIndex): Promise<Map<ConditionGroup, Set<number>>> {
    const undecided = new Map<ConditionGroup, Set<number>>();
    const ticks = new TickBudget();
    for (const [row, entries] of this.#entries.entries()) {
      if (ticks.isUsedUp) await ticks.nextTick();
      const typedRow = this.#tableBatch.typedRow(row);
      let ticksLeft = MAX_TICKS_PER_ROW;
      const isKnown = (columnIndex: number) => this.#tableBatch.hasColumns(row, [columnIndex]);
      for (const group of subscriptions.candidates(typedRow, isKnown)) {
        if (group.test === undefined || !this.hasColumns(row, group.condition.columns)) continue;
        const before = typedRow.steps;
        let truth = group.test(typedRow, NO_PARAMETERS);
        if (truth === undefined && ticksLeft > 0) {
          await ticks.nextTick();
          typedRow.refill();
          ticksLeft -= 1;
          truth = group.test(typedRow, NO_PARAMETERS);
        } else if (before - typedRow.steps > COSTLY_STEPS && ticks.isUsedUp) await ticks.nextTick();
        if (truth === true) addAll(entries, group);
        else if (truth === undefined) undecided.set(group, (undecided.get(group) ?? new Set()).add(row));
      }
    }
    return undecided;
  }

  /** Evaluates conditions, each on some of the rows. */
  async #evaluateInPostgres(
    authorizer: Evaluator,
    asked: ReadonlyMap<ConditionGroup, ReadonlySet<number>>,
    deadline: Deadline | undefined,
  ): Promise<void> {
    const { layout, rows: images } = this.#tableBatch;
    const rows = [...new Set([...asked.values()].flatMap((some) => [...some]))];
    if (rows.length === 0) return;
    const groups = [...asked.keys()];
    const results = await authorizer.evaluateConditions(
      layout.facts,
      rows.map((row) => images[row] ?? []),
      groups.map(({ condition }) => condition),
      deadline,
    );
    for (const [n, group] of groups.entries()) {
      const result = results[n];
      if (result === undefined) throw new Error('The authorizer returned no result for a condition');
      if (result.undecided !== undefined) this.undecided.set(group, result.undecided);
      this.#record(group, result, rows, asked.get(group) ?? new Set());
    }
  }

  /** `evaluated`: the rows that the result is about; `asked`: those for which the condition is not decided in process. */
  #record(
    group: ConditionGroup,
    { visible, failed }: EvaluationResult,
    evaluated: readonly number[],
    asked: ReadonlySet<number>,
  ): void {
    const failedRows = new Set<number>();
    for (const [n, row] of evaluated.entries()) {
      if (!asked.has(row) || !this.hasColumns(row, group.condition.columns)) continue;
      if (visible.has(n)) addAll(this.#entries[row], group);
      if (failed.has(n)) failedRows.add(row);
    }
    if (failedRows.size > 0) this.#failed.push({ group, rows: failedRows });
  }
}

/** With two million steps in each, a row takes the process for less than a second in all. */
const MAX_TICKS_PER_ROW = 50;
/** The steps of a condition after which the time is looked at: it costs much less than they do. */
const COSTLY_STEPS = 1_000;
const NONE: ReadonlySet<SubscriptionEntry> = new Set();
const NO_PARAMETERS: readonly ParameterValue[] = [];

function addAll(to: Set<SubscriptionEntry> | undefined, { entries }: ConditionGroup): void {
  for (const entry of entries) to?.add(entry);
}
