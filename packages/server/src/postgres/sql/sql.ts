/**
 * Runs SQL statements: implemented by the database (pool), by one transaction, and by an unshared session.
 */
export interface Sql {
  /**
   * Returns the rows of one statement with its values bound. `timestamptz`, `numeric` and `bigint` come as
   * the driver parses them. Throws DATABASE_UNAVAILABLE when the connection is lost, and the driver's
   * `DatabaseError` for errors of the statement.
   */
  query<Row extends object>(sql: string, values?: readonly unknown[]): Promise<Row[]>;
}
