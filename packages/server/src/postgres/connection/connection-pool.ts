import pg from 'pg';
import type { Sql } from '../sql/sql.js';
import { PIN_SESSION } from './session-settings.js';

const MAX_CONNECTIONS = 10;
/** How long connections that still work may take to close, in ms; after that their sockets are destroyed. */
const CLOSE_TIMEOUT_MS = 2_000;

/**
 * Pools connections for as long as the database stays reachable. When one connection is lost, the caller
 * discards the whole pool: a connection through a dead network looks healthy until a query waits for its
 * answer.
 */
export class ConnectionPool {
  readonly #pool: pg.Pool;
  readonly #clients = new Set<pg.PoolClient>();
  #closing: Promise<void> | undefined;

  /** `onLost` is called for every connection that fails while idle. */
  constructor(options: pg.ClientConfig, onLost: (error: Error) => void) {
    this.#pool = new pg.Pool({
      ...options,
      max: MAX_CONNECTIONS,
      // One connection stays open, so that a node without requests also notices a failure.
      min: 1,
      verify: (client, done) => {
        client.query(PIN_SESSION, (error: Error | null) => done(error ?? undefined));
      },
    });
    this.#pool.on('error', onLost);
    this.#pool.on('connect', (client) => {
      this.#clients.add(client);
      // The pool does not listen while it verifies a connection, and an unhandled 'error' event ends the
      // process.
      client.on('error', () => undefined);
    });
    this.#pool.on('remove', (client) => this.#clients.delete(client));
  }

  async query<Row extends object>(sql: string, values: readonly unknown[]): Promise<Row[]> {
    const { rows } = await this.#pool.query<Row>(sql, [...values]);
    return rows;
  }

  /**
   * Runs `work` in a transaction; any error rolls it back. A connection whose rollback fails is discarded.
   */
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

  /** Waits a short time for running statements to end, then closes every connection. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const timeout = setTimeout(() => {
      for (const client of this.#clients) client.connection.stream.destroy();
    }, CLOSE_TIMEOUT_MS);
    await this.#pool.end().catch(() => undefined);
    clearTimeout(timeout);
  }
}
