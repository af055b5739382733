import type { Sql } from '../sql/sql.js';
import type { SqlSession } from './sql-session.js';
import type { StatementOptions } from './statement-options.js';

/**
 * Statements on a bounded number of connections. Every call waits for a free one. It throws DATABASE_UNAVAILABLE if too
 * many callers wait or the wait is too long, the reason of the signal in `options` when that aborts, and the statement's
 * own error unchanged.
 */
export interface SqlPool extends Sql {
  query<Row extends object>(
    sql: string,
    values?: readonly unknown[],
    options?: StatementOptions,
  ): Promise<Row[]>;

  /** Runs `work` in a transaction; any error rolls it back. */
  transaction<T>(work: (sql: Sql) => Promise<T>, options?: StatementOptions): Promise<T>;

  /**
   * Opens a session that keeps one of the connections until it is closed or lost, with the search path that the
   * database sets for our login. `purpose` names it in `pg_stat_activity`.
   */
  openSession(purpose: string, options?: Pick<StatementOptions, 'signal'>): Promise<SqlSession>;
}
