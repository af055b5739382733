import { ProtocolError } from '@goforward/realtime-protocol';
import { type Clock, monotonicClock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import { StartupError } from '../../lib/startup-error.js';
import type { SchemaName } from '../migrations/schema.js';
import type { Sql } from '../sql/sql.js';
import { backoffDelay } from './backoff.js';
import { type ConnectionFault, connectionFault, preparationFault } from './connection-fault.js';
import type { ConnectionPool, PoolUse } from './connection-pool.js';
import { ConnectionPools } from './connection-pools.js';
import { type ConnectionTarget, connectionOptions, targetOf } from './connection-target.js';
import { DatabasePreparation } from './database-preparation.js';
import { POOL_NAMES, type PoolName } from './pool-sizes.js';
import { openReaderSession } from './reader-session.js';
import type { SqlPool } from './sql-pool.js';
import type { SqlSession } from './sql-session.js';
import { PoolExhausted, RolledBack, type StatementOptions, StatementTimeout } from './statement-options.js';

export interface DatabaseOptions {
  /** A `postgres://` URL. Its password never reaches a log or a message. */
  readonly url: string;
  readonly log: Log;
  readonly maxReconnectDelayMs: number;
  /**
   * Loads what requests depend on; may query. Called after every successful connect, the first and each later
   * one. The state stays `down` until it resolves.
   */
  readonly onReady: () => Promise<void>;
  readonly applicationName?: string;
  readonly random?: () => number;
  readonly clock?: Clock;
}

/** `reason` is a few words without roles and secrets: `connection refused at 127.0.0.1:5432`. */
export type DatabaseState = { readonly status: 'up' } | { readonly status: 'down'; readonly reason: string };

/** The `application_name` of the server's connections, shown in `pg_stat_activity`. */
const APPLICATION_NAME = 'goforward-realtime';
/** The pools bound their statements themselves: the driver's timeout would leave them running unseen. */
const NO_QUERY_TIMEOUT = 0;
/** SQLSTATE of a connection that PostgreSQL refuses because too many are open. */
const TOO_MANY_CONNECTIONS = '53300';
/** How often the log repeats that the database is unavailable for the same reason, in ms. */
const REPEAT_WARNING_MS = 60_000;

/**
 * Runs queries and reports whether PostgreSQL can be reached. The database may be unavailable at the start
 * and at any later time: the server then reconnects in the background, with exponential backoff, until
 * `stop`. Its own methods use the pool of the server's own statements; work for others uses `pool`.
 */
export class Database implements SqlPool {
  readonly #options: DatabaseOptions;
  readonly #random: () => number;
  readonly #clock: Clock;
  #state: DatabaseState = { status: 'down', reason: 'not connected yet' };
  #schema: SchemaName = 'realtime';
  #target: ConnectionTarget = { address: '', host: '', database: '', user: '' };
  #stopped = false;
  /** Set from the end of the schema set-up until the connection is lost. */
  #pools: ConnectionPools | undefined;
  #attempt: { preparation: DatabasePreparation; done: Promise<void> } | undefined;
  #failures = 0;
  #retry: { timer: NodeJS.Timeout; at: number } | undefined;
  #lastReported: { reason: string; at: number } | undefined;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#clock = options.clock ?? monotonicClock;
  }

  get state(): DatabaseState {
    return this.#state;
  }

  /** The schema of the server's own tables. It needs no quotes in SQL. */
  get schema(): string {
    return this.#schema;
  }

  /** Seconds until the next connection attempt, at least 1: the `retry_after` of errors. */
  get retryAfterSeconds(): number {
    return Math.max(1, Math.ceil(((this.#retry?.at ?? 0) - this.#clock()) / 1000));
  }

  /**
   * Makes the first connection attempt. Throws StartupError when the operator has to fix something, and any
   * error of `onReady`. When the database is unreachable it resolves, and the server retries in the
   * background.
   */
  async start(): Promise<void> {
    try {
      await this.#connect();
    } catch (error) {
      if (this.#stopped) return;
      const fault = this.#faultOf(error);
      if (fault?.kind === 'unreachable') {
        this.#scheduleRetry(fault);
        return;
      }
      await this.stop();
      throw fault === undefined ? error : this.#startupError(fault.advice, error);
    }
  }

  /** Returns the connections for one purpose. */
  pool(name: PoolName): SqlPool {
    return {
      query: (sql, values = [], options) =>
        this.#use(name, (pool) => pool.query(sql, values, options), options),
      transaction: (work, options) => this.#use(name, (pool) => pool.transaction(work, options), options),
      openSession: (purpose, options) => {
        const applicationName = this.#applicationName(purpose);
        return this.#use(name, (pool) => pool.openSession(applicationName, this.#translate, options));
      },
    };
  }

  query<Row extends object>(
    sql: string,
    values?: readonly unknown[],
    options?: StatementOptions,
  ): Promise<Row[]> {
    return this.pool('own').query<Row>(sql, values, options);
  }

  transaction<T>(work: (sql: Sql) => Promise<T>, options?: StatementOptions): Promise<T> {
    return this.pool('own').transaction(work, options);
  }

  openSession(purpose: string, options?: Pick<StatementOptions, 'signal'>): Promise<SqlSession> {
    return this.pool('own').openSession(purpose, options);
  }

  /** Opens a session outside the pools, for the reader of row changes. Throws as `query` does. */
  openReader(purpose: string): Promise<SqlSession> {
    const applicationName = this.#applicationName(purpose);
    return this.#use('own', () => openReaderSession(this.#options.url, applicationName, this.#translate));
  }

  /** How the pools are used now; nothing while the database is unavailable. */
  poolUses(): readonly (readonly [PoolName, PoolUse])[] {
    return this.#pools?.uses() ?? POOL_NAMES.map((name) => [name, { inUse: 0, abandoned: 0 }]);
  }

  async #use<T>(
    name: PoolName,
    work: (pool: ConnectionPool) => Promise<T>,
    options?: StatementOptions,
  ): Promise<T> {
    const pools = this.#pools;
    if (pools === undefined) throw this.#unavailable();
    try {
      return await work(pools.get(name));
    } catch (thrown) {
      const error = thrown instanceof RolledBack ? thrown.cause : thrown;
      const ours = this.#bounded(error, options);
      if (ours !== undefined) throw ours;
      const fault = thrown === error ? connectionFault(error, this.#target) : undefined;
      if (fault === undefined) throw error;
      this.#discardPools(pools, fault);
      throw this.#unavailable(error);
    }
  }

  /** Returns what to throw for an error of limits, which say nothing about the database; undefined for any other. */
  #bounded(error: unknown, options: StatementOptions | undefined): unknown {
    // A caller that set a limit handles it. For any other caller, PostgreSQL does not answer in time.
    if (error instanceof StatementTimeout) return options?.limitMs ? error : this.#unavailable(error);
    if (error instanceof PoolExhausted) return this.#unavailable(error);
    // The connections that are open still work.
    const isRefused = error instanceof Error && 'code' in error && error.code === TOO_MANY_CONNECTIONS;
    return isRefused && this.#state.status === 'up' ? this.#unavailable(error) : undefined;
  }

  /** Converts an error of a session. */
  readonly #translate = (error: unknown, options?: StatementOptions): unknown => {
    const isFault = connectionFault(error, this.#target) !== undefined;
    return this.#bounded(error, options) ?? (isFault ? this.#unavailable(error) : error);
  };

  #applicationName(purpose: string): string {
    return `${this.#options.applicationName ?? APPLICATION_NAME} ${purpose}`;
  }

  /** Closes all connections and stops reconnecting. May be called at any time, also repeatedly. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry?.timer);
    this.#retry = undefined;
    this.#state = { status: 'down', reason: 'stopped' };
    const pools = this.#pools;
    this.#pools = undefined;
    this.#attempt?.preparation.cancel();
    await Promise.all([pools?.close(), this.#attempt?.done.catch(() => undefined)]);
  }

  /** Makes one attempt, from connecting to the state `up`. */
  async #connect(): Promise<void> {
    const preparation = this.#prepare();
    const done = this.#open(preparation);
    this.#attempt = { preparation, done };
    try {
      await done;
    } finally {
      this.#attempt = undefined;
    }
  }

  #prepare(): DatabasePreparation {
    const { url, applicationName = APPLICATION_NAME } = this.#options;
    try {
      const preparation = new DatabasePreparation(url, applicationName);
      this.#target = targetOf(preparation.client);
      return preparation;
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new StartupError(`DATABASE_URL cannot be used: ${message}.`, { exitCode: 2, cause });
    }
  }

  async #open(preparation: DatabasePreparation): Promise<void> {
    this.#schema = await preparation.run();
    if (this.#stopped) return;
    const { url, applicationName = APPLICATION_NAME, onReady, log } = this.#options;
    const pools = new ConnectionPools(connectionOptions(url, applicationName, NO_QUERY_TIMEOUT), {
      lost: (error) => {
        const fault = connectionFault(error, this.#target);
        this.#discardPools(
          pools,
          fault ?? { kind: 'unreachable', reason: `connection to ${this.#target.address} lost` },
        );
      },
      abandoned: (pool, pid) => {
        log.warn(
          { pool, pid },
          'A cancelled statement has not ended; with two of them, its pool refuses the work of users',
        );
      },
    });
    this.#pools = pools;
    await this.query('SELECT 1');
    await onReady();
    if (this.#pools !== pools) throw this.#unavailable();
    this.#markUp();
  }

  #markUp(): void {
    const { log } = this.#options;
    const { address, database } = this.#target;
    this.#state = { status: 'up' };
    this.#failures = 0;
    log.info(
      { address, database, schema: this.#schema },
      this.#lastReported === undefined ? 'PostgreSQL connected' : 'PostgreSQL is available again',
    );
    this.#lastReported = undefined;
  }

  /**
   * Discards the pools after a connection failed. Only the first failure acts; during an attempt, the
   * attempt retries.
   */
  #discardPools(pools: ConnectionPools, fault: ConnectionFault): void {
    if (this.#pools !== pools) return;
    this.#pools = undefined;
    void pools.close();
    this.#state = { status: 'down', reason: fault.reason };
    if (this.#attempt === undefined) this.#scheduleRetry(fault);
  }

  #scheduleRetry(fault: ConnectionFault): void {
    const delay = backoffDelay(this.#failures++, this.#options.maxReconnectDelayMs, this.#random);
    this.#state = { status: 'down', reason: fault.reason };
    this.#warnUnavailable(fault);
    this.#retry = {
      timer: setTimeout(() => void this.#retryConnect(), delay),
      at: this.#clock() + delay,
    };
  }

  async #retryConnect(): Promise<void> {
    this.#retry = undefined;
    try {
      await this.#connect();
    } catch (error) {
      if (this.#stopped) return;
      const fault = this.#faultOf(error);
      if (fault === undefined) this.#options.log.error({ err: error }, 'PostgreSQL setup failed');
      this.#scheduleRetry(fault ?? { kind: 'unreachable', reason: 'database setup failed' });
    }
  }

  #warnUnavailable(fault: ConnectionFault): void {
    const { reason } = fault;
    const now = this.#clock();
    if (this.#lastReported?.reason === reason && now - this.#lastReported.at < REPEAT_WARNING_MS) return;
    this.#lastReported = { reason, at: now };
    const { address, database } = this.#target;
    this.#options.log.warn(
      { address, database, reason, ...(fault.advice === undefined ? {} : { advice: fault.advice }) },
      'PostgreSQL is unavailable; retrying in the background',
    );
  }

  /** Returns why an attempt failed. Where the attempt lost its pool meanwhile, the state has the reason. */
  #faultOf(error: unknown): ConnectionFault | undefined {
    const isLost = error instanceof ProtocolError && error.code === 'DATABASE_UNAVAILABLE';
    if (isLost && this.#state.status === 'down') return { kind: 'unreachable', reason: this.#state.reason };
    return preparationFault(error, this.#target);
  }

  #startupError(advice: string, cause: unknown): StartupError {
    const { address, database } = this.#target;
    return new StartupError(
      `Cannot use PostgreSQL at ${address}, database "${database}" (DATABASE_URL): ${advice}.`,
      { cause },
    );
  }

  #unavailable(cause?: unknown): ProtocolError {
    return new ProtocolError('DATABASE_UNAVAILABLE', {
      fields: { retry_after: this.retryAfterSeconds },
      ...(cause === undefined ? {} : { cause }),
    });
  }
}
