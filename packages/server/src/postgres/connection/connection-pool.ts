import pg from 'pg';
import type { Sql } from '../sql/sql.js';
import { PooledSession } from './pooled-session.js';
import { PIN_SESSION } from './session-settings.js';
import { PoolExhausted, RolledBack, type StatementOptions } from './statement-options.js';

const MAX_CONNECTIONS = 10;
/** How many callers may wait for a connection. */
const MAX_WAITING = 256;
/** With this many statements that could not be cancelled, no more statements of users are started. */
const MAX_ABANDONED = 2;
/** How long PostgreSQL may take to answer a new connection when it is suspected to be unreachable, in ms. */
const PROBE_MS = 2_000;
/** How long connections that still work may take to close, in ms; after that their sockets are destroyed. */
const CLOSE_TIMEOUT_MS = 2_000;
/** pg-pool's error for a caller that has waited too long for a connection in use by others. */
const WAITED_TOO_LONG = 'timeout exceeded when trying to connect';

export interface PoolEvents {
  /** A connection has failed while idle, or PostgreSQL does not answer. */
  lost(error: Error): void;
  /** A cancelled statement goes on in PostgreSQL, in the backend with this process ID. */
  abandoned(pid: number): void;
}

/**
 * Pools connections for as long as the database stays reachable. When one connection is lost, the caller
 * discards the whole pool: a connection through a dead network looks healthy until a query waits for its
 * answer.
 */
export class ConnectionPool {
  readonly #pool: pg.Pool;
  readonly #options: pg.ClientConfig;
  readonly #events: PoolEvents;
  readonly #clients = new Set<pg.PoolClient>();
  #abandoned = 0;
  #probe: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** `options` has no `query_timeout`: after it, the driver would take a running statement for ended. */
  constructor(options: pg.ClientConfig, events: PoolEvents) {
    this.#options = options;
    this.#events = events;
    this.#pool = new pg.Pool({
      ...options,
      max: MAX_CONNECTIONS,
      // One connection stays open, so that a node without requests also notices a failure.
      min: 1,
      verify: (client, done) => {
        client.query(PIN_SESSION, (error: Error | null) => done(error ?? undefined));
      },
    });
    this.#pool.on('error', (error) => events.lost(error));
    this.#pool.on('connect', (client) => {
      this.#clients.add(client);
      // The pool does not listen while it verifies a connection, and an unhandled 'error' event ends the
      // process.
      client.on('error', () => undefined);
    });
    this.#pool.on('remove', (client) => this.#clients.delete(client));
  }

  async query<Row extends object>(
    sql: string,
    values: readonly unknown[],
    options: StatementOptions = {},
  ): Promise<Row[]> {
    const session = await this.#acquire(options);
    try {
      const rows = await session.query<Row>(sql, values);
      session.release();
      return rows;
    } catch (error) {
      session.release(error instanceof pg.DatabaseError ? undefined : new Error('broken', { cause: error }));
      throw error;
    }
  }

  /** Runs `work` in a transaction. Throws RolledBack with any error after which the connection still works. */
  async transaction<T>(work: (sql: Sql) => Promise<T>, options: StatementOptions = {}): Promise<T> {
    const session = await this.#acquire(options);
    try {
      await session.query('BEGIN');
      const result = await work(session);
      await session.query('COMMIT');
      session.release();
      return result;
    } catch (error) {
      const failure = await session.rollback().then(noError, (broken: Error) => broken);
      session.release(failure);
      throw failure === undefined ? new RolledBack(error) : error;
    }
  }

  /** Waits a short time for running statements to end, then closes every connection. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const timeout = setTimeout(() => this.#destroySockets(), CLOSE_TIMEOUT_MS);
    await this.#pool.end().catch(() => undefined);
    clearTimeout(timeout);
  }

  #destroySockets(): void {
    for (const client of this.#clients) client.connection.stream.destroy();
  }

  async #acquire(options: StatementOptions): Promise<PooledSession> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (signal !== undefined && this.#abandoned >= MAX_ABANDONED)
      throw new PoolExhausted(`${this.#abandoned} statements could not be cancelled`);
    if (this.#pool.waitingCount >= MAX_WAITING) throw new PoolExhausted('too many statements are waiting');
    const connecting = this.#pool.connect();
    const client = await unlessAborted(connecting, signal).catch((error: unknown) => {
      // A connection that comes too late goes back unused.
      connecting.then((late) => late.release()).catch(() => undefined);
      if (error instanceof Error && error.message === WAITED_TOO_LONG)
        throw new PoolExhausted('all connections are in use');
      throw error;
    });
    return new PooledSession(client, options, {
      silent: () => void this.#checkAnswers(),
      abandoned: (ended, pid) => {
        this.#abandoned += 1;
        this.#events.abandoned(pid);
        void ended.then(() => {
          this.#abandoned -= 1;
        });
      },
    });
  }

  /** Connects once more. If PostgreSQL answers, the other statement is only slow, which says nothing about the database. */
  #checkAnswers(): Promise<void> {
    this.#probe ??= this.#connectOnce().finally(() => {
      this.#probe = undefined;
    });
    return this.#probe;
  }

  async #connectOnce(): Promise<void> {
    const client = new pg.Client({ ...this.#options, connectionTimeoutMillis: PROBE_MS });
    client.on('error', () => undefined);
    try {
      await client.connect();
    } catch (error) {
      // A refusal is an answer too.
      if (!(error instanceof Error) || error instanceof pg.DatabaseError) return;
      this.#events.lost(error);
      this.#destroySockets();
    } finally {
      client.end().catch(() => undefined);
    }
  }
}

/** Rejects with the signal's reason as soon as it aborts. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function noError(): undefined {
  return undefined;
}
