/** What the catalog says of one column that has not been dropped. */
export interface ColumnFacts {
  readonly name: string;
  readonly number: number;
  readonly typeOid: number;
  /** The type as SQL writes it, qualified and with its modifier: `numeric(10,2)`, `public.mood`. */
  readonly type: string;
  /** The expression of a generated column, which the log does not carry; null for any other. */
  readonly generated: string | null;
  /** What its values can be compared as outside of PostgreSQL (compiling/exact-values); null: as nothing. */
  readonly family: string | null;
}

/** What the catalog says of a table at one moment. A change of any of it makes a new object. */
export interface TableFacts {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly kind: 'table' | 'partitioned';
  /** In the order of the table. */
  readonly columns: readonly ColumnFacts[];
  /** The names of the primary key's columns, in the order of the table; empty where there is none. */
  readonly primaryKey: readonly string[];
  /** What an old row version consists of: `f` all columns, `d` the primary key, `i` an index, `n` nothing. */
  readonly identity: 'f' | 'd' | 'i' | 'n';
  /** The names of the columns that an old row version has. */
  readonly identityColumns: readonly string[];
}
