import { readChange } from '../../postgres/replication/pgoutput.js';
import type { TableChange } from '../log/packed-changes.js';
import type { FilterEvent } from '../model/change-filter.js';
import type { RowImage } from '../model/row-image.js';
import { TypedRow } from '../visibility/compiling/predicate.js';
import type { TableView } from './table-view.js';

/** There is no such row version. */
export const NO_ROW = -1;

/** A change with its row versions read, each as the log's relation has its columns. */
export interface DecodedChange {
  readonly streamed: TableChange;
  /** Its place in the slice. */
  readonly batchIndex: number;
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
export class TableBatch {
  readonly view: TableView;
  readonly changes: DecodedChange[] = [];
  readonly rows: RowImage[] = [];
  readonly #typedRows: TypedRow[] = [];

  constructor(view: TableView) {
    this.view = view;
  }

  add(streamed: TableChange, batchIndex: number): void {
    if (streamed.kind === 'truncate') {
      this.changes.push({
        streamed,
        batchIndex,
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
      batchIndex,
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
  typedRow(row: number): TypedRow {
    let typedRow = this.#typedRows[row];
    if (typedRow === undefined) {
      typedRow = new TypedRow(this.rows[row] ?? []);
      this.#typedRows[row] = typedRow;
    }
    return typedRow;
  }

  #row(image: RowImage | undefined): number {
    return image === undefined ? NO_ROW : this.rows.push(this.view.factsImage(image)) - 1;
  }
}
