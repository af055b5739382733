import { ProtocolError } from '@goforward/realtime-protocol';
import type { Clock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import { StartupError } from '../../lib/startup-error.js';
import type { SchemaName } from '../migrations/schema.js';
import type { Sql } from '../sql/sql.js';
import { backoffDelay } from './backoff.js';
import { type ConnectionFault, connectionFault, preparationFault } from './connection-fault.js';
import { ConnectionPool } from './connection-pool.js';
import { type ConnectionTarget, connectionOptions, targetOf } from './connection-target.js';
import { DatabasePreparation } from './database-preparation.js';
import { SqlSession } from './sql-session.js';

export interface DatabaseOptions {
  /** A `postgres://` URL. Its password never reaches a log or a message. */
  readonly url: string;
  readonly log: Log;
  readonly maxReconnectDelayMs: number;
  /**
   * Reads what must be known before requests are served; may query. Called each time that the database is there
   * (again). While it runs the state is still `down`.
   */
  readonly onReady: () => Promise<void>;
  readonly applicationName?: string;
  readonly random?: () => number;
  readonly clock?: Clock;
}

/** `reason` is a few words without roles and secrets: `connection refused at 127.0.0.1:5432`. */
export type DatabaseState = { readonly status: 'up' } | { readonly status: 'down'; readonly reason: string };

/** What `pg_stat_activity` calls our connections. */
const OUR_NAME = 'goforward-realtime';
/** A request that waited so long for its answer is answered without it, in ms. */
const QUERY_TIMEOUT_MS = 10_000;
/** A database that stays away for the same reason is named in the log this often, in ms. */
const REMIND_MS = 60_000;

/**
 * PostgreSQL as the rest of the server sees it: queries, and whether it can be reached. It may come late and
 * go away at any time; attempts to reach it again go on in the background until `stop`.
 */
export class Database implements Sql {
  readonly #options: DatabaseOptions;
  readonly #random: () => number;
  readonly #clock: Clock;
  #state: DatabaseState = { status: 'down', reason: 'not connected yet' };
  #schema: SchemaName = 'realtime';
  #target: ConnectionTarget = { address: '', host: '', database: '', user: '' };
  #stopped = false;
  /** Set from the moment that the schema is ready until the connection is lost. */
  #pool: ConnectionPool | undefined;
  #attempt: { preparation: DatabasePreparation; done: Promise<void> } | undefined;
  #failures = 0;
  #retry: { timer: NodeJS.Timeout; at: number } | undefined;
  #lastReported: { reason: string; at: number } | undefined;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#clock = options.clock ?? Date.now;
  }

  get state(): DatabaseState {
    return this.#state;
  }

  /** The schema of our tables, which needs no quotes in SQL. */
  get schema(): string {
    return this.#schema;
  }

  /** Seconds after which the database may be back: until the next attempt, and at least one. */
  get retryAfterSeconds(): number {
    return Math.max(1, Math.ceil(((this.#retry?.at ?? 0) - this.#clock()) / 1000));
  }

  /**
   * Makes the first attempt. Throws StartupError for what an operator has to mend, and whatever `onReady`
   * throws; a database that cannot be reached is waited for in the background.
   */
  async start(): Promise<void> {
    try {
      await this.#connect();
    } catch (error) {
      if (this.#stopped) return;
      const fault = this.#faultOf(error);
      if (fault?.kind === 'unreachable') {
        this.#goDown(fault);
        return;
      }
      await this.stop();
      throw fault === undefined ? error : this.#startupError(fault.advice, error);
    }
  }

  /** The rows of one statement. Throws DATABASE_UNAVAILABLE; errors of the statement itself pass as they are. */
  query<Row extends object>(sql: string, values: readonly unknown[] = []): Promise<Row[]> {
    return this.#use((pool) => pool.query<Row>(sql, values));
  }

  /** Runs `work` in a transaction of its own; whatever it throws rolls back. Throws as `query` does. */
  transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#use((pool) => pool.transaction(work));
  }

  /** A connection of one's own, with the search path that the database gives to our login. Throws as `query` does. */
  openSession(purpose: string): Promise<SqlSession> {
    const { url, applicationName = OUR_NAME } = this.#options;
    const translate = (error: unknown) =>
      connectionFault(error, this.#target) === undefined ? error : this.#unavailable(error);
    return this.#use(() => SqlSession.open(url, `${applicationName} ${purpose}`, translate));
  }

  async #use<T>(work: (pool: ConnectionPool) => Promise<T>): Promise<T> {
    const pool = this.#pool;
    if (pool === undefined) throw this.#unavailable();
    try {
      return await work(pool);
    } catch (error) {
      const fault = connectionFault(error, this.#target);
      if (fault === undefined) throw error;
      this.#lose(pool, fault);
      throw this.#unavailable(error);
    }
  }

  /** Ends connections and attempts. May be called at any time, also again. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry?.timer);
    this.#retry = undefined;
    this.#state = { status: 'down', reason: 'stopped' };
    const pool = this.#pool;
    this.#pool = undefined;
    this.#attempt?.preparation.cancel();
    await Promise.all([pool?.close(), this.#attempt?.done.catch(() => undefined)]);
  }

  /** One attempt, from the connection to the state `up`. */
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
    const { url, applicationName = OUR_NAME } = this.#options;
    try {
      const preparation = new DatabasePreparation(url, applicationName);
      this.#target = targetOf(preparation.client);
      return preparation;
    } catch (cause) {
      const words = cause instanceof Error ? cause.message : String(cause);
      throw new StartupError(`DATABASE_URL cannot be used: ${words}.`, { exitCode: 2, cause });
    }
  }

  async #open(preparation: DatabasePreparation): Promise<void> {
    this.#schema = await preparation.run();
    if (this.#stopped) return;
    const { url, applicationName = OUR_NAME, onReady } = this.#options;
    const pool = new ConnectionPool(connectionOptions(url, applicationName, QUERY_TIMEOUT_MS), (error) => {
      const fault = connectionFault(error, this.#target);
      this.#lose(
        pool,
        fault ?? { kind: 'unreachable', reason: `connection to ${this.#target.address} lost` },
      );
    });
    this.#pool = pool;
    await this.query('SELECT 1');
    await onReady();
    if (this.#pool !== pool) throw this.#unavailable();
    this.#goUp();
  }

  #goUp(): void {
    const { log } = this.#options;
    const { address, database } = this.#target;
    this.#state = { status: 'up' };
    this.#failures = 0;
    log.info(
      { address, database, schema: this.#schema },
      this.#lastReported === undefined ? 'PostgreSQL is connected' : 'PostgreSQL is up again',
    );
    this.#lastReported = undefined;
  }

  /** A connection of `pool` failed. Only the first to notice acts; during an attempt, the attempt itself does. */
  #lose(pool: ConnectionPool, fault: ConnectionFault): void {
    if (this.#pool !== pool) return;
    this.#pool = undefined;
    void pool.close();
    this.#state = { status: 'down', reason: fault.reason };
    if (this.#attempt === undefined) this.#goDown(fault);
  }

  #goDown(fault: ConnectionFault): void {
    const delay = backoffDelay(this.#failures++, this.#options.maxReconnectDelayMs, this.#random);
    this.#state = { status: 'down', reason: fault.reason };
    this.#report(fault);
    this.#retry = {
      timer: setTimeout(() => void this.#tryAgain(), delay),
      at: this.#clock() + delay,
    };
  }

  async #tryAgain(): Promise<void> {
    this.#retry = undefined;
    try {
      await this.#connect();
    } catch (error) {
      if (this.#stopped) return;
      const fault = this.#faultOf(error);
      if (fault === undefined) this.#options.log.error({ err: error }, 'PostgreSQL could not be made ready');
      this.#goDown(fault ?? { kind: 'unreachable', reason: 'the database could not be made ready' });
    }
  }

  #report(fault: ConnectionFault): void {
    const { reason } = fault;
    const now = this.#clock();
    if (this.#lastReported?.reason === reason && now - this.#lastReported.at < REMIND_MS) return;
    this.#lastReported = { reason, at: now };
    const { address, database } = this.#target;
    this.#options.log.warn(
      { address, database, reason, ...(fault.advice === undefined ? {} : { advice: fault.advice }) },
      'PostgreSQL cannot be used; trying again in the background',
    );
  }

  /** Why an attempt failed. An attempt whose pool was lost meanwhile has its reason in the state. */
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
