import type { RowImage } from '../../model/row-image.js';
import { rowArrayLiteral } from '../../values/row-array-literal.js';
import type { EvaluationError } from '../authorizer.js';

/** Returns the error that these rows raise, before anything is evaluated on them; undefined if there is none. */
type RowError = (rows: string) => Promise<EvaluationError | undefined>;

/**
 * Finds the rows that PostgreSQL cannot read as rows of their table any more: the catalog can have changed since
 * they were written, by a renamed enum value or a new constraint of a domain.
 */
export async function unreadableRows(
  rows: readonly RowImage[],
  errorOf: RowError,
): Promise<ReadonlyMap<number, EvaluationError>> {
  const found = new Map<number, EvaluationError>();
  const search = async (from: number, to: number): Promise<void> => {
    const error = await errorOf(rowArrayLiteral(rows.slice(from, to)));
    if (error === undefined) return;
    if (to - from === 1) {
      found.set(from, error);
      return;
    }
    const middle = (from + to) >> 1;
    await search(from, middle);
    await search(middle, to);
  };
  if (rows.length > 0) await search(0, rows.length);
  return found;
}
