import { RowSnapshot } from '../../model/row-snapshot.js';
import type { EvaluationError, EvaluationResult, Undecided, ViewerParameters } from '../authorizer.js';
import type { ParameterLeaf } from '../compiling/compiled-expression.js';
import { NotCompilable } from '../compiling/not-compilable.js';
import type { Item } from './evaluation-calls.js';

/** What the policies and conditions functions return for an item. */
export interface AnswerRow {
  readonly item: number;
  readonly visible: readonly number[] | null;
  readonly failed: readonly number[] | null;
  /** Of the first row that failed; of an earlier item where none did. */
  readonly error_state: string | null;
  readonly error_text: string | null;
  /** Of a condition; null for a viewer. */
  readonly took_ms: number | null;
}

/** What the parameters function returns for a viewer. */
export interface ParametersRow {
  readonly item: number;
  /** The values, followed by the snapshot that they were read in. */
  readonly parameters: readonly (string | readonly (string | null)[] | null)[] | null;
}

/** A viewer or a condition to evaluate on rows. */
export interface RowItem extends Item {
  readonly rows: readonly number[];
}

/**
 * Returns the parameters of a viewer; undefined: they cannot be evaluated in process. `snapshots`: the snapshots parsed so far, by their text, since most viewers
 * share one.
 */
export function parametersOf(
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

/** Returns the result of an item that cannot be evaluated. */
export function failedResult({ rows }: RowItem, error: EvaluationError, tookMs: number): EvaluationResult {
  return { visible: new Set(), failed: new Set(rows), error, tookMs };
}

/** Returns the result of an item that was not evaluated before the deadline. */
export function undecidedResult(undecided: Undecided): EvaluationResult {
  return { visible: new Set(), failed: new Set(), undecided };
}

/** Returns the result with those of the item's rows as failed that PostgreSQL cannot read. */
export function withFailedRows(
  { visible, failed, error, ...rest }: EvaluationResult,
  { rows }: RowItem,
  unreadable: ReadonlyMap<number, EvaluationError>,
): EvaluationResult {
  const more = rows.filter((row) => unreadable.has(row));
  const raised = error ?? unreadable.get(more[0] ?? -1);
  return {
    ...rest,
    visible: new Set([...visible].filter((row) => !unreadable.has(row))),
    failed: new Set([...failed, ...more]),
    ...(raised === undefined ? {} : { error: raised }),
  };
}

/** Returns the result in the answer of PostgreSQL. */
export function resultOf({
  visible,
  failed,
  error_state: sqlstate,
  error_text: message,
  took_ms: tookMs,
}: AnswerRow): EvaluationResult {
  const took = tookMs === null ? {} : { tookMs };
  const result = { visible: numbers(visible), failed: numbers(failed), ...took };
  if (result.failed.size === 0 || sqlstate === null) return result;
  return { ...result, error: { sqlstate, message: message ?? '' } };
}

/** Converts numbers from 1 to indexes from 0. */
function numbers(from: readonly number[] | null): ReadonlySet<number> {
  return new Set((from ?? []).map((row) => row - 1));
}
