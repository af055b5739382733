import pg from 'pg';
import type { Sql } from '../sql/sql.js';
import { PIN_SESSION } from './session-settings.js';

const MAX_CONNECTIONS = 10;
/** How long connections that still work may take to say goodbye, in ms; then they are cut. */
const GOODBYE_MS = 2_000;

/**
 * The connections of one stretch of time in which the database could be reached. When it is lost the pool is
 * thrown away whole: a connection through a dead network looks healthy until somebody waits for its answer.
 */
export class ConnectionPool {
  readonly #pool: pg.Pool;
  readonly #clients = new Set<pg.PoolClient>();
  #closing: Promise<void> | undefined;

  /** `onLost` hears of every connection that fails while nobody uses it. */
  constructor(options: pg.ClientConfig, onLost: (error: Error) => void) {
    this.#pool = new pg.Pool({
      ...options,
      max: MAX_CONNECTIONS,
      // One stays, so that a node without requests learns of a failure too.
      min: 1,
      verify: (client, done) => {
        client.query(PIN_SESSION, (error: Error | null) => done(error ?? undefined));
      },
    });
    this.#pool.on('error', onLost);
    this.#pool.on('connect', (client) => {
      this.#clients.add(client);
      // The pool does not listen while a connection is verified, and an error that nobody hears ends the process.
      client.on('error', () => undefined);
    });
    this.#pool.on('remove', (client) => this.#clients.delete(client));
  }

  async query<Row extends object>(sql: string, values: readonly unknown[]): Promise<Row[]> {
    const { rows } = await this.#pool.query<Row>(sql, [...values]);
    return rows;
  }

  /** Runs `work` in a transaction; whatever it throws rolls back. A connection whose rollback fails is thrown away. */
  async transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect();
    let broken: Error | undefined;
    try {
      await client.query('BEGIN');
      const result = await work({
        query: async <Row extends object>(sql: string, values: readonly unknown[] = []) =>
          (await client.query<Row>(sql, [...values])).rows,
      });
      await client.query('COMMIT');
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch((failure: Error) => {
        broken = failure;
      });
      throw error;
    } finally {
      client.release(broken);
    }
  }

  /** Lets running statements end, within limits, and closes every connection. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const cut = setTimeout(() => {
      for (const client of this.#clients) client.connection.stream.destroy();
    }, GOODBYE_MS);
    await this.#pool.end().catch(() => undefined);
    clearTimeout(cut);
  }
}
