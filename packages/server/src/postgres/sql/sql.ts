/** Something that statements can be sent to: the database, one transaction, or a session of its own. */
export interface Sql {
  /**
   * The rows of one statement with its values bound; `timestamptz`, `numeric` and `bigint` as the driver reads
   * them. Throws DATABASE_UNAVAILABLE when the connection is lost, and the driver's `DatabaseError` for the
   * statement's own errors.
   */
  query<Row extends object>(sql: string, values?: readonly unknown[]): Promise<Row[]>;
}
