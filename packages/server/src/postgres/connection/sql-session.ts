import pg from 'pg';
import type { Sql } from '../sql/sql.js';
import { connectionOptions } from './connection-target.js';
import { PIN_SESSION } from './session-settings.js';

/** Guards against a dead network, in ms. Statements set their own `statement_timeout` where they need one. */
const QUERY_TIMEOUT_MS = 60_000;

/**
 * Holds one unshared connection, for callers that depend on its prepared functions, temporary objects and
 * settings. Its search path is the one that the database sets for its login, since policies may rely on it;
 * all other settings are pinned. A lost session is not reopened: the caller opens a new one.
 */
export class SqlSession implements Sql {
  readonly #client: pg.Client;
  #lost = false;

  /** Connects and pins the settings. `translate` maps an error of the driver to the error to throw. */
  static async open(
    url: string,
    applicationName: string,
    translate: (error: unknown) => unknown,
  ): Promise<SqlSession> {
    const session = new SqlSession(
      new pg.Client(connectionOptions(url, applicationName, QUERY_TIMEOUT_MS)),
      translate,
    );
    try {
      await session.#client.connect();
      await session.#client.query(`${PIN_SESSION}; SET search_path TO DEFAULT`);
    } catch (error) {
      session.close();
      throw translate(error);
    }
    return session;
  }

  private constructor(
    client: pg.Client,
    private readonly translate: (error: unknown) => unknown,
  ) {
    this.#client = client;
    client.on('error', () => {
      this.#lost = true;
    });
    client.on('end', () => {
      this.#lost = true;
    });
  }

  /** Whether the connection has ended, so that the caller needs a new session. */
  get isLost(): boolean {
    return this.#lost;
  }

  /** Registers callbacks for NOTIFY and for the end of the session. */
  listen(onNotification: (payload: string) => void, onEnd: () => void): void {
    this.#client.on('notification', ({ payload }) => onNotification(payload ?? ''));
    this.#client.on('end', onEnd);
    this.#client.on('error', onEnd);
  }

  async query<Row extends object>(sql: string, values: readonly unknown[] = []): Promise<Row[]> {
    try {
      return (await this.#client.query<Row>(sql, [...values])).rows;
    } catch (error) {
      throw this.translate(error);
    }
  }

  /** Closes the connection at once, even in the middle of a statement. */
  close(): void {
    this.#lost = true;
    this.#client.end().catch(() => undefined);
    this.#client.connection.stream.destroy();
  }
}
