import type { WalRelation } from '../../postgres/source/change-source.js';
import type { RowImage } from '../model/row-image.js';
import type { TableFacts } from '../model/table-facts.js';
import { RecordWriter } from '../values/row-json.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { RolePrivileges } from '../visibility/role-privileges.js';

/** A choice of columns, by their places in the log's relation, and what makes a JSON record of them. */
export interface ColumnChoice {
  /** Equal for equal choices. */
  readonly key: string;
  readonly indexes: readonly number[];
  readonly writer: RecordWriter;
}

/**
 * A table as its changes are read: the columns that the log's relation had when they were written, beside those of
 * the catalog now. A column is the same one when name and type are.
 */
export class TableView {
  readonly relation: WalRelation;
  readonly facts: TableFacts;
  /** For each column of the catalog its place in the relation, or -1. */
  readonly #indexInRelation: readonly number[];
  readonly #isSame: boolean;
  readonly #formats: ValueFormats;
  readonly #choices = new Map<string, ColumnChoice>();
  readonly #names: ReadonlyMap<string, number>;

  constructor(relation: WalRelation, facts: TableFacts, formats: ValueFormats) {
    this.relation = relation;
    this.facts = facts;
    this.#formats = formats;
    this.#names = new Map(relation.columns.map(({ name }, index) => [name, index]));
    this.#indexInRelation = facts.columns.map(({ name, typeOid, generated }) => {
      const index = generated === null ? this.#names.get(name) : undefined;
      return index !== undefined && relation.columns[index]?.typeOid === typeOid ? index : -1;
    });
    this.#isSame =
      this.#indexInRelation.length === relation.columns.length &&
      this.#indexInRelation.every((place, index) => place === index);
  }

  /** The image as the authorizer takes it: in the order of the catalog's columns. */
  factsImage(image: RowImage): RowImage {
    if (this.#isSame) return image;
    return this.#indexInRelation.map((place) => (place === -1 ? undefined : image[place]));
  }

  /** The places in the catalog's order that must be known for a judgement that reads these columns; null: they never are. */
  requirement(names: Iterable<string>): readonly number[] | null {
    const required: number[] = [];
    for (const name of names) {
      const at = this.facts.columns.findIndex((column) => column.name === name);
      const column = this.facts.columns[at];
      if (column === undefined) return null;
      if (column.generated === null) required.push(at);
    }
    return required;
  }

  /** Those of the named columns (missing: all) that the role may read, in the order of the table. */
  choice(names: ReadonlySet<string> | undefined, privileges: RolePrivileges): ColumnChoice {
    const indexes: number[] = [];
    this.relation.columns.forEach(({ name }, index) => {
      if ((names === undefined || names.has(name)) && privileges.columns.has(name)) indexes.push(index);
    });
    const key = indexes.join();
    let choice = this.#choices.get(key);
    if (choice === undefined) {
      choice = { key, indexes, writer: new RecordWriter(this.relation.columns, indexes, this.#formats) };
      this.#choices.set(key, choice);
    }
    return choice;
  }

  /** The names of the chosen columns that this image does not know. */
  unknownIn(image: RowImage, { indexes }: ColumnChoice): string[] {
    const names: string[] = [];
    for (const index of indexes) {
      const name = this.relation.columns[index]?.name;
      if (image[index] === undefined && name !== undefined) names.push(name);
    }
    return names;
  }
}
