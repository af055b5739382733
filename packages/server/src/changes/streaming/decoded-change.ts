import { readChange } from '../../postgres/replication/pgoutput.js';
import type { FilterEvent } from '../change-filter.js';
import { ExactRow } from '../compiling/predicate.js';
import type { RowImage } from '../row-image.js';
import type { TableChange } from './packed-changes.js';
import type { TableView } from './table-view.js';

/** There is no such row version. */
export const NO_ROW = -1;

/** A change with its row versions read, each as the log's relation has its columns. */
export interface DecodedChange {
  readonly streamed: TableChange;
  /** Its place in the slice. */
  readonly position: number;
  readonly old: RowImage | undefined;
  readonly new: RowImage | undefined;
  /** Their indexes among the rows of the batch, or NO_ROW. */
  readonly oldRow: number;
  readonly newRow: number;
}

const EVENTS = { insert: 'INSERT', update: 'UPDATE', delete: 'DELETE', truncate: undefined } as const;

/** What the change is for a filter; undefined: a TRUNCATE, which no filter is about. */
export function eventOf({ streamed: { kind } }: DecodedChange): FilterEvent | undefined {
  return EVENTS[kind];
}

/** The changes of one table in a slice, and their row versions as the authorizer takes them. */
export class ChangeBatch {
  readonly view: TableView;
  readonly changes: DecodedChange[] = [];
  readonly rows: RowImage[] = [];
  readonly #exact: ExactRow[] = [];

  constructor(view: TableView) {
    this.view = view;
  }

  add(streamed: TableChange, position: number): void {
    if (streamed.kind === 'truncate') {
      this.changes.push({
        streamed,
        position,
        old: undefined,
        new: undefined,
        oldRow: NO_ROW,
        newRow: NO_ROW,
      });
      return;
    }
    const read = readChange(streamed.bytes, streamed.relation, streamed.start, streamed.end);
    this.changes.push({
      streamed,
      position,
      old: read.old,
      new: read.new,
      oldRow: this.#row(read.old),
      newRow: this.#row(read.new),
    });
  }

  /** Whether all these columns (places in the catalog's order) of a row are known. */
  knows(row: number, required: readonly number[]): boolean {
    const image = this.rows[row];
    return image !== undefined && required.every((place) => image[place] !== undefined);
  }

  /** Whether all columns of a row are known. */
  isWhole(row: number): boolean {
    return this.view.facts.columns.every(
      ({ generated }, place) => generated !== null || this.rows[row]?.[place] !== undefined,
    );
  }

  /** The row as compiled expressions take it. */
  exact(row: number): ExactRow {
    let exact = this.#exact[row];
    if (exact === undefined) {
      exact = new ExactRow(this.rows[row] ?? []);
      this.#exact[row] = exact;
    }
    return exact;
  }

  #row(image: RowImage | undefined): number {
    return image === undefined ? NO_ROW : this.rows.push(this.view.factsImage(image)) - 1;
  }
}
