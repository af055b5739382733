import { type ChangeRows, readChange } from '../../postgres/replication/pgoutput.js';
import type { TableChange } from '../log/packed-changes.js';
import type { FilterEvent } from '../model/change-filter.js';
import type { RowImage } from '../model/row-image.js';
import { emptyBits } from '../visibility/compiling/like-search.js';
import { TypedRow } from '../visibility/compiling/typed-row.js';
import type { TableLayout } from './table-layout.js';

/** The row index of a version that the change does not have. */
export const NO_ROW = -1;

/** A change with its decoded row versions. Their columns are in the order of the WAL relation. */
export interface DecodedChange {
  readonly streamed: TableChange;
  /** The index of the change in its batch. */
  readonly batchIndex: number;
  readonly old: RowImage | undefined;
  readonly new: RowImage | undefined;
  /** The indexes of both versions in `TableBatch.rows`, or NO_ROW. */
  readonly oldRow: number;
  readonly newRow: number;
  /** The columns, by index, whose value was too large to decode, if any. */
  readonly tooLarge?: ChangeRows['tooLarge'];
}

const EVENTS = { insert: 'INSERT', update: 'UPDATE', delete: 'DELETE', truncate: undefined } as const;

/** Returns the event that filters select by; undefined for a TRUNCATE, which no filter selects. */
export function eventOf({ streamed: { kind } }: DecodedChange): FilterEvent | undefined {
  return EVENTS[kind];
}

/**
 * Holds the changes of one table in a batch, and their row versions in the form that the authorizer takes.
 */
export class TableBatch {
  readonly layout: TableLayout;
  readonly changes: DecodedChange[] = [];
  readonly rows: RowImage[] = [];
  /** The names of the columns whose value was too large to decode, by row. */
  readonly #tooLarge = new Map<number, ReadonlySet<string>>();
  readonly #typedRows: TypedRow[] = [];
  readonly #bits = emptyBits();

  constructor(layout: TableLayout) {
    this.layout = layout;
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
    const images = readChange(streamed.bytes, streamed.relation, streamed.start, streamed.end);
    const { tooLarge } = images;
    const [oldRow, newRow] = [this.#addRow(images.old), this.#addRow(images.new)];
    this.changes.push({
      streamed,
      batchIndex,
      old: images.old,
      new: images.new,
      oldRow,
      newRow,
      ...(tooLarge === undefined ? {} : { tooLarge }),
    });
    if (tooLarge === undefined) return;
    const namesOf = (indexes: ReadonlySet<number>) =>
      new Set([...indexes].map((index) => streamed.relation.columns[index]?.name ?? ''));
    this.#tooLarge.set(oldRow, namesOf(tooLarge.old)).set(newRow, namesOf(tooLarge.new));
  }

  /** Whether the values of all these columns of a row are known. `required`: indexes in catalog order. */
  hasColumns(row: number, required: readonly number[]): boolean {
    const image = this.rows[row];
    return image !== undefined && required.every((index) => image[index] !== undefined);
  }

  /** Whether a value that is read was too large to decode. */
  readsTooLarge(row: number, columns: readonly string[]): boolean {
    const tooLarge = this.#tooLarge.get(row);
    return tooLarge !== undefined && columns.some((name) => tooLarge.has(name));
  }

  /** Whether the values of all columns of a row are known, but for generated columns. */
  isComplete(row: number): boolean {
    return this.layout.facts.columns.every(
      ({ generated }, index) => generated !== null || this.rows[row]?.[index] !== undefined,
    );
  }

  /** Returns the row in the form that compiled expressions take. */
  typedRow(row: number): TypedRow {
    let typedRow = this.#typedRows[row];
    if (typedRow === undefined) {
      typedRow = new TypedRow(this.rows[row] ?? [], this.#bits);
      this.#typedRows[row] = typedRow;
    }
    return typedRow;
  }

  /** Returns the index of the added row. */
  #addRow(image: RowImage | undefined): number {
    return image === undefined ? NO_ROW : this.rows.push(this.layout.inCatalogOrder(image)) - 1;
  }
}
