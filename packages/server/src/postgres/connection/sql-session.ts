import pg from 'pg';
import type { Sql } from '../sql/sql.js';
import { connectionOptions } from './connection-target.js';
import { PIN_SESSION } from './session-settings.js';

/** Statements of a session set their own `statement_timeout` where they need one; this is for a dead network, in ms. */
const QUERY_TIMEOUT_MS = 60_000;

/**
 * One connection that is not shared: for whatever must find its prepared functions, temporary objects and settings
 * again. Its search path is the one that the database gives to its login, since policies may rely on it;
 * everything else is pinned. It is not made again when it is lost.
 */
export class SqlSession implements Sql {
  readonly #client: pg.Client;
  #lost = false;

  /** `translate` makes an error of the driver the one to throw. */
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

  /** Whether a new session is needed. */
  get isLost(): boolean {
    return this.#lost;
  }

  /** Hears of NOTIFY and of the end of the session. */
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

  /** Ends the connection at once, whatever it is doing. */
  close(): void {
    this.#lost = true;
    this.#client.end().catch(() => undefined);
    this.#client.connection.stream.destroy();
  }
}
