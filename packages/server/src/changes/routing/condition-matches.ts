import { TickBudget } from '../../lib/tick-budget.js';
import type { ConditionCost } from '../subscriptions/condition-budget.js';
import { type Authorizer, type ConditionResult, isTooSlow } from '../visibility/authorizer.js';
import type { ParameterValue } from '../visibility/compiling/predicate.js';
import type { ConditionGroup, SubscriptionEntry, SubscriptionIndex } from './subscription-index.js';
import type { TableBatch } from './table-batch.js';

/** A condition that PostgreSQL evaluates, with the rows that recipients who have it see. */
export interface SeenCondition {
  readonly group: ConditionGroup;
  readonly rows: readonly number[];
  /** The entries with a recipient that sees one of the rows, by who is charged for them. */
  readonly payers: ReadonlyMap<string, readonly SubscriptionEntry[]>;
  /** Set where all rows are seen by the same recipients, who alone learn that the condition is too slow on them. */
  readonly audience?: string;
}

/** A condition that raised an error, or took too long, on some rows. */
export interface FailedCondition {
  readonly group: ConditionGroup;
  readonly rows: ReadonlySet<number>;
}

/** What PostgreSQL found out about conditions. */
interface SeenResult {
  /** Conditions that are too slow, on rows that not all the same recipients may see. They are still open. */
  readonly tooSlow: readonly SeenCondition[];
  readonly failed: readonly FailedCondition[];
  readonly costs: readonly ConditionCost<SubscriptionEntry>[];
}

type Evaluator = Pick<Authorizer, 'evaluateConditions'>;

/**
 * Which conditions of all subscriptions to a table are true of the rows of a table batch. `inProcess` decides those that
 * are compiled; the others stay open, and so does a compiled one on a row that has no steps left to decide it.
 * PostgreSQL then evaluates an open condition only on the rows that somebody who has it sees: `evaluateSeen`.
 */
export class ConditionMatches {
  /** For each row, the entries with a condition that is true of it, open, or reads a value that is too large. */
  readonly #entries: readonly Set<SubscriptionEntry>[];
  readonly #tableBatch: TableBatch;
  readonly #open = new Map<ConditionGroup, Set<number>>();
  /** The indexes, in catalog order, of the columns that conditions read. */
  readonly #requiredIndexes = new Map<readonly string[], readonly number[] | null>();

  private constructor(tableBatch: TableBatch, subscriptions: SubscriptionIndex) {
    this.#tableBatch = tableBatch;
    this.#entries = subscriptions.hasConditions ? tableBatch.rows.map(() => new Set()) : [];
  }

  /** Evaluates the compiled conditions on all rows, once for all subscriptions with the same one. */
  static async inProcess(
    tableBatch: TableBatch,
    subscriptions: SubscriptionIndex,
  ): Promise<ConditionMatches> {
    const matches = new ConditionMatches(tableBatch, subscriptions);
    await matches.#evaluateInProcess(subscriptions);
    return matches;
  }

  /** The conditions that are not decided in process, with the rows on which they are not. */
  get open(): ReadonlyMap<ConditionGroup, ReadonlySet<number>> {
    return this.#open;
  }

  /**
   * The entries with a condition that is true of the row, or open. One that is still open after `evaluateSeen` is so on
   * rows that nobody sees who has it: row visibility decides.
   */
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

  /** Has PostgreSQL evaluate open conditions on rows that somebody sees. */
  async evaluateSeen(authorizer: Evaluator, seen: readonly SeenCondition[]): Promise<SeenResult> {
    const { layout, rows: images } = this.#tableBatch;
    // PostgreSQL gets no other row.
    const rows = [...new Set(seen.flatMap((condition) => condition.rows))];
    if (rows.length === 0) return { failed: [], costs: [], tooSlow: [] };
    const indexes = new Map(rows.map((row, index) => [row, index]));
    const results = await authorizer.evaluateConditions(
      layout.facts,
      rows.map((row) => images[row] ?? []),
      seen.map((asked) => ({
        condition: asked.group.condition,
        rows: asked.rows.map((row) => indexes.get(row) ?? 0),
        payers: [...asked.payers.keys()],
        audience: asked.audience,
      })),
    );
    const failed: FailedCondition[] = [];
    const costs: ConditionCost<SubscriptionEntry>[] = [];
    const tooSlow: SeenCondition[] = [];
    for (const [n, condition] of seen.entries()) {
      const { group, rows: asked } = condition;
      const result = results[n];
      if (result === undefined) throw new Error('The authorizer returned no result for a condition');
      costs.push(...costsOf(condition, result));
      if (asked.length > 1 && condition.audience === undefined && isTooSlow(result)) {
        tooSlow.push(condition);
        continue;
      }
      const failedRows = this.#record(group, asked, result, indexes);
      if (failedRows.size > 0) failed.push({ group, rows: failedRows });
    }
    return { failed, costs, tooSlow };
  }

  /**
   * A row gets the steps of further ticks before a condition stays open, since PostgreSQL needs some hundred times as
   * long for the same patterns, and all later changes wait for it.
   */
  async #evaluateInProcess(subscriptions: SubscriptionIndex): Promise<void> {
    const ticks = new TickBudget();
    for (const [row, entries] of this.#entries.entries()) {
      if (ticks.isUsedUp) await ticks.nextTick();
      const typedRow = this.#tableBatch.typedRow(row);
      let ticksLeft = MAX_TICKS_PER_ROW;
      const isKnown = (columnIndex: number) => this.#tableBatch.hasColumns(row, [columnIndex]);
      for (const group of subscriptions.candidates(typedRow, isKnown)) {
        const { columns } = group.condition;
        if (!this.hasColumns(row, columns)) {
          // Whether it is true cannot be known. Who sees the row gets a gap in place of the change.
          if (this.#tableBatch.readsTooLarge(row, columns))
            for (const entry of group.entries) entries.add(entry);
          continue;
        }
        const before = typedRow.steps;
        let truth = group.test?.(typedRow, NO_PARAMETERS);
        if (group.test !== undefined && truth === undefined && ticksLeft > 0) {
          await ticks.nextTick();
          typedRow.refill();
          ticksLeft -= 1;
          truth = group.test(typedRow, NO_PARAMETERS);
        } else if (before - typedRow.steps > COSTLY_STEPS && ticks.isUsedUp) await ticks.nextTick();
        if (truth === true || truth === undefined) for (const entry of group.entries) entries.add(entry);
        if (truth === undefined) this.#open.set(group, (this.#open.get(group) ?? new Set()).add(row));
      }
    }
  }

  /** Records where a condition is true. Returns the rows on which it failed. */
  #record(
    group: ConditionGroup,
    asked: readonly number[],
    { visible, failed }: ConditionResult,
    indexes: ReadonlyMap<number, number>,
  ): Set<number> {
    const failedRows = new Set<number>();
    for (const row of asked) {
      const index = indexes.get(row) ?? -1;
      if (!visible.has(index)) for (const entry of group.entries) this.#entries[row]?.delete(entry);
      if (failed.has(index)) failedRows.add(row);
    }
    return failedRows;
  }
}

/** Charges the payers of a condition in equal parts. */
function* costsOf(
  { payers }: SeenCondition,
  { tookMs, medianMs }: ConditionResult,
): Iterable<ConditionCost<SubscriptionEntry>> {
  for (const [payer, entries] of payers) {
    const ms = tookMs / payers.size / entries.length;
    for (const subscription of entries) yield { payer, subscription, ms, medianMs };
  }
}

/** With two million steps in each, a row takes the process for less than a second in all. */
const MAX_TICKS_PER_ROW = 50;
/** The steps of a condition after which the time is looked at: it costs much less than they do. */
const COSTLY_STEPS = 1_000;
const NONE: ReadonlySet<SubscriptionEntry> = new Set();
const NO_PARAMETERS: readonly ParameterValue[] = [];
