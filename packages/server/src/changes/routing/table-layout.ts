import type { WalRelation } from '../../postgres/source/change-source.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import { JsonRecordWriter } from '../values/json-record-writer.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';

/** Selects columns by their indexes in the WAL relation, with the writer that makes a JSON record of them. */
export interface ColumnSelection {
  /** Equal for equal selections. */
  readonly key: string;
  readonly indexes: readonly number[];
  readonly writer: JsonRecordWriter;
}

/**
 * Maps the columns of a WAL relation, as they were when its changes were written, to the columns of the
 * catalog now. Two columns are the same if their names and types are equal.
 */
export class TableLayout {
  readonly relation: WalRelation;
  readonly facts: TableFacts;
  /** For each column of the catalog its index in the relation, or -1. */
  readonly #indexInRelation: readonly number[];
  readonly #isCatalogOrder: boolean;
  readonly #formats: ValueFormats;
  readonly #selections = new Map<string, ColumnSelection>();
  readonly #indexByName: ReadonlyMap<string, number>;

  constructor(relation: WalRelation, facts: TableFacts, formats: ValueFormats) {
    this.relation = relation;
    this.facts = facts;
    this.#formats = formats;
    this.#indexByName = new Map(relation.columns.map(({ name }, index) => [name, index]));
    this.#indexInRelation = facts.columns.map(({ name, typeOid, generated }) => {
      const index = generated === null ? this.#indexByName.get(name) : undefined;
      return index !== undefined && relation.columns[index]?.typeOid === typeOid ? index : -1;
    });
    this.#isCatalogOrder =
      this.#indexInRelation.length === relation.columns.length &&
      this.#indexInRelation.every((indexInRelation, index) => indexInRelation === index);
  }

  /** Returns the image in catalog order, which the authorizer takes. */
  inCatalogOrder(image: RowImage): RowImage {
    if (this.#isCatalogOrder) return image;
    return this.#indexInRelation.map((index) => (index === -1 ? undefined : image[index]));
  }

  /**
   * Returns the indexes, in catalog order, of the values that an expression over these columns needs; null
   * when one of the columns does not exist, so that the expression can never be evaluated. Generated columns
   * need no value: their own expression is evaluated instead.
   */
  requiredIndexes(names: Iterable<string>): readonly number[] | null {
    const required: number[] = [];
    for (const name of names) {
      const index = this.facts.columns.findIndex((column) => column.name === name);
      const column = this.facts.columns[index];
      if (column === undefined) return null;
      if (column.generated === null) required.push(index);
    }
    return required;
  }

  /** Selects the named columns (undefined: all) that the role is allowed to read, in table order. */
  selectColumns(names: ReadonlySet<string> | undefined, privileges: RolePrivileges): ColumnSelection {
    const indexes: number[] = [];
    this.relation.columns.forEach(({ name }, index) => {
      if ((names === undefined || names.has(name)) && privileges.columns.has(name)) indexes.push(index);
    });
    const key = indexes.join();
    let selection = this.#selections.get(key);
    if (selection === undefined) {
      selection = {
        key,
        indexes,
        writer: new JsonRecordWriter(this.relation.columns, indexes, this.#formats),
      };
      this.#selections.set(key, selection);
    }
    return selection;
  }

  /** Returns the names of the selected columns whose values this image does not have. */
  unknownColumns(image: RowImage, { indexes }: ColumnSelection): string[] {
    const names: string[] = [];
    for (const index of indexes) {
      const name = this.relation.columns[index]?.name;
      if (image[index] === undefined && name !== undefined) names.push(name);
    }
    return names;
  }
}
