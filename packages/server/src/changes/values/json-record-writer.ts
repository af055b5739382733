import type { RowImage } from '../model/row-image.js';
import type { ValueFormat, ValueFormats } from './value-formats.js';

/** Writes selected columns of a table's rows as JSON records. */
export class JsonRecordWriter {
  readonly #columns: readonly {
    readonly index: number;
    readonly key: string;
    readonly format: ValueFormat;
  }[];

  /** `indexes`: the columns to write, in this order. Their types must be loaded in `formats`. */
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

  /** Returns a JSON object of the selected columns that are known in the image. */
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
