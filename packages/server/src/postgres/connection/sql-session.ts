import type pg from 'pg';
import type { Sql } from '../sql/sql.js';
import type { PooledSession } from './pooled-session.js';
import type { StatementOptions } from './statement-options.js';

/** How long a statement of a session may take without `limitMs`, in ms: a guard against a dead network. */
export const SESSION_LIMIT_MS = 60_000;

/** Maps an error of the driver to the error to throw. */
export type TranslateError = (error: unknown, options?: StatementOptions) => unknown;

/**
 * Holds one unshared connection, for callers that depend on its prepared functions, temporary objects and
 * settings. Its search path is the one that the database sets for its login, since policies may rely on it;
 * all other settings are pinned. A lost session is not reopened: the caller opens a new one.
 */
export class SqlSession implements Sql {
  readonly #client: pg.ClientBase;
  readonly #connection: PooledSession;
  readonly #translate: TranslateError;
  #isClosed = false;

  /** Names the session in `pg_stat_activity`, and sets its search path. Closes the connection if that fails. */
  static async open(
    client: pg.ClientBase,
    connection: PooledSession,
    applicationName: string,
    translate: TranslateError,
  ): Promise<SqlSession> {
    const session = new SqlSession(client, connection, translate);
    try {
      await connection.query('SET search_path TO DEFAULT');
      await connection.query(`SELECT pg_catalog.set_config('application_name', $1, false)`, [
        applicationName,
      ]);
    } catch (error) {
      session.close();
      throw translate(error);
    }
    return session;
  }

  private constructor(client: pg.ClientBase, connection: PooledSession, translate: TranslateError) {
    this.#client = client;
    this.#connection = connection;
    this.#translate = translate;
    client.on('error', () => this.close());
    client.on('end', () => this.close());
  }

  /** Whether the caller needs a new session: the connection has ended, or a statement was cancelled. */
  get isLost(): boolean {
    return this.#isClosed || this.#connection.isCancelled;
  }

  /** Registers callbacks for NOTIFY and for the end of the session. */
  listen(onNotification: (payload: string) => void, onEnd: () => void): void {
    this.#client.on('notification', ({ payload }) => onNotification(payload ?? ''));
    this.#client.on('end', onEnd);
    this.#client.on('error', onEnd);
  }

  /**
   * Returns the rows of one statement. A statement over its `limitMs` fails with StatementTimeout, and the session is
   * lost.
   */
  async query<Row extends object>(
    sql: string,
    values: readonly unknown[] = [],
    options?: StatementOptions,
  ): Promise<Row[]> {
    try {
      return await this.#connection.query<Row>(sql, values, options);
    } catch (error) {
      throw this.#translate(this.#isClosed ? new SessionClosed(error) : error, options);
    }
  }

  /** Closes the connection at once. In the middle of a statement it cancels that, and closes when it has ended. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#connection.release(true);
  }
}

/** The session was closed, by its owner or by PostgreSQL. The message is one that the driver uses. */
class SessionClosed extends Error {
  constructor(cause: unknown) {
    super('Connection terminated', { cause });
    this.name = 'SessionClosed';
  }
}
