import type pg from 'pg';
import type { Sql } from '../sql/sql.js';
import { sendCancelRequest } from './cancel-request.js';
import { type StatementOptions, StatementTimeout } from './statement-options.js';

/** Receives what a session learns about its statements. */
export interface StatementObserver {
  /** A statement has not been answered for `SILENCE_MS`: it is slow, or the connection is dead. */
  silent(): void;
  /** A cancelled statement has not ended in time. `ended` resolves when it has; `pid`: its backend. */
  abandoned(ended: Promise<void>, pid: number): void;
}

/** How long a statement may take without `limitMs`, in ms. Above every `statement_timeout` of the server. */
const DEFAULT_LIMIT_MS = 20_000;
/** How long a statement goes unanswered until the network is suspected, in ms. */
const SILENCE_MS = 7_000;
/** How long a cancelled statement may take to end, in ms. */
const CANCEL_MS = 2_000;

/**
 * One connection while a single caller uses it. Cancels its statement when the caller's signal aborts, the statement
 * takes too long, or the session is released. A connection with a cancelled statement is never used again: a cancel
 * request that arrives late must not hit the statement of somebody else.
 */
export class PooledSession implements Sql {
  readonly #client: pg.ClientBase;
  readonly #giveBack: (broken: boolean) => void;
  readonly #observer: StatementObserver;
  readonly #options: StatementOptions;
  /** Stops the running statement. */
  #stop: ((reason: unknown) => void) | undefined;
  /** Resolves when the cancelled statement has ended; undefined: none was cancelled. */
  #cancelled: Promise<void> | undefined;
  #isReleased = false;

  /** `options` are those of statements without options of their own. `giveBack` is called once. */
  constructor(
    client: pg.ClientBase,
    giveBack: (broken: boolean) => void,
    options: StatementOptions,
    observer: StatementObserver,
  ) {
    this.#client = client;
    this.#giveBack = giveBack;
    this.#options = options;
    this.#observer = observer;
  }

  /** Whether a statement was cancelled, so that no other one can run. */
  get isCancelled(): boolean {
    return this.#cancelled !== undefined;
  }

  /** Runs one statement. Rejects only when it has ended or was abandoned, so that its cost stays counted. */
  query<Row extends object>(
    sql: string,
    values: readonly unknown[] = [],
    options: StatementOptions = this.#options,
  ): Promise<Row[]> {
    return this.#run<Row>(sql, values, options);
  }

  /** Ends the transaction, if there is one left. Rejects if the connection is lost. */
  async rollback(): Promise<void> {
    if (this.#cancelled === undefined) await this.#run('ROLLBACK', [], {});
  }

  /**
   * Gives the connection back. It is closed instead if it is `broken`, or if a statement was cancelled: then when that
   * statement has ended. A statement that runs is cancelled.
   */
  release(broken = false): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#stop?.(new StatementTimeout());
    if (this.#cancelled === undefined) this.#giveBack(broken);
    else void this.#cancelled.then(() => this.#giveBack(true));
  }

  async #run<Row extends object>(
    sql: string,
    values: readonly unknown[],
    { signal, limitMs = DEFAULT_LIMIT_MS }: StatementOptions,
  ): Promise<Row[]> {
    signal?.throwIfAborted();
    if (this.#cancelled !== undefined || this.#isReleased) throw new StatementTimeout();
    const silence = setTimeout(() => this.#observer.silent(), SILENCE_MS);
    const running = this.#client.query<Row>(sql, [...values]);
    let cancelling: Promise<void> | undefined;
    const stopped = new Promise<never>((_, reject) => {
      this.#stop = (reason) => {
        cancelling ??= this.#cancel(running);
        reject(reason);
      };
    });
    const stop = this.#stop;
    const onAbort = () => stop?.(signal?.reason);
    const timer = setTimeout(() => stop?.(new StatementTimeout()), limitMs);
    signal?.addEventListener('abort', onAbort);
    try {
      return (await Promise.race([running, stopped])).rows;
    } catch (error) {
      await cancelling;
      throw error;
    } finally {
      this.#stop = undefined;
      clearTimeout(silence);
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Cancels the statement; resolves when it has ended or was abandoned. */
  async #cancel(running: Promise<unknown>): Promise<void> {
    const ended = running.then(ignore, ignore);
    this.#cancelled = ended;
    void sendCancelRequest(this.#client);
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<true>((resolve) => {
      timer = setTimeout(() => resolve(true), CANCEL_MS);
    });
    if ((await Promise.race([ended, tooLate])) === true)
      this.#observer.abandoned(ended, (this.#client as unknown as { readonly processID: number }).processID);
    clearTimeout(timer);
  }
}

function ignore(): void {
  return;
}
