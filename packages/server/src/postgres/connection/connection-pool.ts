import pg from 'pg';
import type { Sql } from '../sql/sql.js';
import { ConnectionSlots } from './connection-slots.js';
import { POOLS, type PoolName } from './pool-sizes.js';
import { PooledSession } from './pooled-session.js';
import { PIN_SESSION } from './session-settings.js';
import { SESSION_LIMIT_MS, SqlSession, type TranslateError } from './sql-session.js';
import { RolledBack, type StatementOptions, TooManyAbandoned } from './statement-options.js';

/** With this many statements that could not be cancelled, a pool starts no more of them. */
const MAX_ABANDONED = 2;
/** How long connections that still work may take to close, in ms; after that their sockets are destroyed. */
const CLOSE_TIMEOUT_MS = 2_000;

export interface PoolEvents {
  /** A connection has failed while idle. */
  lost(error: Error): void;
  /** A statement has not been answered for a long time: it is slow, or PostgreSQL is unreachable. */
  silent(): void;
  /** A cancelled statement goes on in PostgreSQL, in the backend with this process ID. */
  abandoned(pool: PoolName, pid: number): void;
}

/** The state of a pool, for metrics. */
export interface PoolUse {
  readonly inUse: number;
  /** Connections whose statement was cancelled and has not ended. They count as in use. */
  readonly abandoned: number;
}

/**
 * Pools connections of one purpose for as long as the database stays reachable. Connections are opened when they are
 * needed, and closed when they are idle.
 */
export class ConnectionPool {
  readonly #name: PoolName;
  readonly #pool: pg.Pool;
  readonly #slots: ConnectionSlots;
  readonly #events: PoolEvents;
  readonly #clients = new Set<pg.PoolClient>();
  readonly #sessions = new Set<SqlSession>();
  #abandoned = 0;
  #closing: Promise<void> | undefined;

  /** `options` has no `query_timeout`: after it, the driver would take a running statement for ended. */
  constructor(name: PoolName, options: pg.ClientConfig, events: PoolEvents) {
    this.#name = name;
    this.#events = events;
    this.#slots = new ConnectionSlots(POOLS[name]);
    this.#pool = new pg.Pool({
      ...options,
      max: POOLS[name].connections,
      // One connection stays open, so that a node without requests also notices a failure.
      min: name === 'own' ? 1 : 0,
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

  get use(): PoolUse {
    return { inUse: this.#slots.inUse, abandoned: this.#abandoned };
  }

  async query<Row extends object>(
    sql: string,
    values: readonly unknown[],
    options: StatementOptions = {},
  ): Promise<Row[]> {
    const { session } = await this.#acquire(options);
    try {
      const rows = await session.query<Row>(sql, values);
      session.release();
      return rows;
    } catch (error) {
      session.release(!(error instanceof pg.DatabaseError));
      throw error;
    }
  }

  /** Runs `work` in a transaction. Throws RolledBack with any error after which the connection still works. */
  async transaction<T>(work: (sql: Sql) => Promise<T>, options: StatementOptions = {}): Promise<T> {
    const { session } = await this.#acquire(options);
    try {
      await session.query('BEGIN');
      const result = await work(session);
      await session.query('COMMIT');
      session.release();
      return result;
    } catch (error) {
      const isBroken = await session.rollback().then(
        () => false,
        () => true,
      );
      session.release(isBroken);
      throw isBroken ? error : new RolledBack(error);
    }
  }

  /** Opens a session, which keeps its connection until it is closed. `signal` ends the wait for a connection. */
  async openSession(
    applicationName: string,
    translate: TranslateError,
    { signal }: Pick<StatementOptions, 'signal'> = {},
  ): Promise<SqlSession> {
    const { client, session } = await this.#acquire(signal === undefined ? {} : { signal }, {
      limitMs: SESSION_LIMIT_MS,
    });
    const opened = await SqlSession.open(client, session, applicationName, translate);
    this.#sessions.add(opened);
    client.once('end', () => this.#sessions.delete(opened));
    if (this.#closing !== undefined) opened.close();
    return opened;
  }

  /** Closes sessions, waits a short time for running statements to end, then closes every connection. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  destroySockets(): void {
    for (const client of this.#clients) client.connection.stream.destroy();
  }

  async #close(): Promise<void> {
    this.#slots.close();
    for (const session of this.#sessions) session.close();
    const timeout = setTimeout(() => this.destroySockets(), CLOSE_TIMEOUT_MS);
    await this.#pool.end().catch(() => undefined);
    clearTimeout(timeout);
  }

  /** `statements`: the options of the session's statements, unless they are those of the caller. */
  async #acquire(options: StatementOptions, statements = options) {
    const { signal } = options;
    signal?.throwIfAborted();
    this.#requireFewAbandoned();
    await this.#slots.acquire(signal);
    const connecting = this.#connect();
    const client = await unlessAborted(connecting, signal).catch((error: unknown) => {
      // A connection that comes too late goes back unused.
      connecting
        .then((late) => late.release())
        .catch(() => undefined)
        .finally(() => this.#slots.release());
      throw error;
    });
    const giveBack = (isBroken: boolean) => {
      client.release(isBroken);
      this.#slots.release();
    };
    const session = new PooledSession(client, giveBack, statements, {
      silent: () => this.#events.silent(),
      abandoned: (ended, pid) => this.#countAbandoned(ended, pid),
    });
    return { client, session };
  }

  #requireFewAbandoned(): void {
    if (POOLS[this.#name].refusesWhenAbandoned && this.#abandoned >= MAX_ABANDONED)
      throw new TooManyAbandoned(this.#abandoned);
  }

  /** A caller that has waited must not start what the pool refuses by now. */
  async #connect(): Promise<pg.PoolClient> {
    this.#requireFewAbandoned();
    return this.#pool.connect();
  }

  #countAbandoned(ended: Promise<void>, pid: number): void {
    this.#abandoned += 1;
    this.#events.abandoned(this.#name, pid);
    void ended.then(() => {
      this.#abandoned -= 1;
    });
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
