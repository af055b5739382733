/** Decides which tables can be enabled, by REALTIME_FILTER_TABLES and REALTIME_EXCLUDE_TABLES. */
export class AllowedTables {
  readonly #only: readonly string[];
  readonly #never: readonly string[];

  /** Lists of `table`, in any schema, or `schema.table`. An empty `only` allows any table; `never` wins. */
  constructor(only: readonly string[], never: readonly string[]) {
    this.#only = only;
    this.#never = never;
  }

  allows(schema: string, table: string): boolean {
    const isIn = (list: readonly string[]) => list.includes(table) || list.includes(`${schema}.${table}`);
    return !isIn(this.#never) && (this.#only.length === 0 || isIn(this.#only));
  }
}
