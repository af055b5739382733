/** Describes one column of a table as the catalog has it. Dropped columns are left out. */
export interface ColumnFacts {
  readonly name: string;
  /** `attnum` */
  readonly number: number;
  readonly typeOid: number;
  /** The type as SQL writes it, qualified and with its modifier: `numeric(10,2)`, `public.mood`. */
  readonly type: string;
  /** The expression of a generated column, which the WAL does not contain; null for any other column. */
  readonly generated: string | null;
  /**
   * How its values are compared outside of PostgreSQL (compiling/typed-values); null: only PostgreSQL can
   * compare them.
   */
  readonly family: string | null;
}

/**
 * Describes a table as the catalog has it at one moment. Immutable: any change of the catalog makes a new
 * object.
 */
export interface TableFacts {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly kind: 'table' | 'partitioned';
  /** In table order. */
  readonly columns: readonly ColumnFacts[];
  /** The names of the primary key's columns, in table order; empty for a table without one. */
  readonly primaryKey: readonly string[];
  /**
   * The replica identity. An old row version has: `f` all columns, `d` the primary key, `i` an index, `n`
   * nothing.
   */
  readonly identity: 'f' | 'd' | 'i' | 'n';
  /** The names of the columns of an old row version. */
  readonly identityColumns: readonly string[];
}
