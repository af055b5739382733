import type { RowImage } from '../model/row-image.js';
import type { ValueFormat, ValueFormats } from './value-formats.js';

/** Makes JSON records of some columns of a table's rows. */
export class RecordWriter {
  readonly #columns: readonly {
    readonly index: number;
    readonly key: string;
    readonly format: ValueFormat;
  }[];

  /** `indexes`: the columns to write, in their order; `formats` has their types loaded. */
  constructor(
    columns: readonly { readonly name: string; readonly typeOid: number }[],
    indexes: readonly number[],
    formats: ValueFormats,
  ) {
    this.#columns = indexes.flatMap((index) => {
      const column = columns[index];
      if (column === undefined) return [];
      return [{ index, key: `${JSON.stringify(column.name)}:`, format: formats.of(column.typeOid) }];
    });
  }

  /** An object of the columns that the image knows. */
  json(image: RowImage): string {
    let members = '';
    for (const { index, key, format } of this.#columns) {
      const text = image[index];
      if (text === undefined) continue;
      members += `${members === '' ? '' : ','}${key}${text === null ? 'null' : format(text)}`;
    }
    return `{${members}}`;
  }
}
