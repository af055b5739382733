import type { SqlSession } from '../../../postgres/connection/sql-session.js';
import type { EvaluationFunction } from './evaluation-function.js';

/** A session with this many functions, or characters that name them, is replaced by a new one, without any. */
const MAX_FUNCTIONS = 500;
const MAX_CHARACTERS = 2_000_000;
/**
 * How long after its statement_timeout a call is cancelled from here, in ms. The timeout does not end what PostgreSQL
 * cannot interrupt.
 */
const CANCEL_AFTER_MS = 2_000;
/** The functions' statements are planned once: arrays of rows have no statistics by which values could matter. */
const SETTINGS = 'SET plan_cache_mode = force_generic_plan';

/**
 * Runs evaluation functions on a connection of its own, creates them there on first use, and replaces a lost
 * connection. It is one of `EvaluationSessions`.
 */
export class EvaluationSession {
  readonly #open: () => Promise<SqlSession>;
  readonly #idleMs: number;
  #session: SqlSession | undefined;
  #names = new Map<string, string>();
  #created = 0;
  /** The characters of the keys of functions, which have the conditions that they evaluate. */
  #characters = 0;
  #timeoutMs = 0;
  #isClosed = false;
  #idle: NodeJS.Timeout | undefined;

  /** `idleMs`: how long the connection stays open without a call. */
  constructor(open: () => Promise<SqlSession>, idleMs: number) {
    this.#open = open;
    this.#idleMs = idleMs;
  }

  /** Whether there is a connection. */
  get isOpen(): boolean {
    return this.#session?.isLost === false;
  }

  /** Whether the function exists on the present connection. */
  has(key: string): boolean {
    return this.isOpen && this.#names.has(key);
  }

  /**
   * Calls a function with a statement_timeout in ms; returns its rows. Throws StatementTimeout if PostgreSQL does not end
   * the call in time: the next one then uses another connection. Only one call may run.
   */
  async call<Row extends object>(
    evaluation: EvaluationFunction,
    values: readonly unknown[],
    timeoutMs: number,
    onStart?: () => void,
  ): Promise<Row[]> {
    clearTimeout(this.#idle);
    try {
      return await this.#call<Row>(evaluation, values, timeoutMs, onStart);
    } finally {
      this.#idle = setTimeout(() => this.#session?.close(), this.#idleMs).unref();
    }
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#idle);
    this.#session?.close();
  }

  async #call<Row extends object>(
    evaluation: EvaluationFunction,
    values: readonly unknown[],
    timeoutMs: number,
    onStart: (() => void) | undefined,
  ): Promise<Row[]> {
    const session = await this.#ready();
    const options = { limitMs: timeoutMs + CANCEL_AFTER_MS };
    if (this.#timeoutMs !== timeoutMs) {
      await session.query(`SET statement_timeout = ${timeoutMs}`, [], options);
      this.#timeoutMs = timeoutMs;
    }
    let name = this.#names.get(evaluation.key);
    if (name === undefined) {
      name = `evaluate_${this.#created++}`;
      await session.query(evaluation.definition(name), [], options);
      this.#names.set(evaluation.key, name);
      this.#characters += evaluation.key.length;
    }
    onStart?.();
    const placeholders = values.map((_, n) => `$${n + 1}`).join(', ');
    return session.query<Row>(
      `SELECT ${evaluation.columns} FROM pg_temp."${name}"(${placeholders})`,
      values,
      options,
    );
  }

  async #ready(): Promise<SqlSession> {
    if (this.#isClosed) throw new Error('the evaluation session is closed');
    const isFull = this.#names.size >= MAX_FUNCTIONS || this.#characters >= MAX_CHARACTERS;
    if (this.#session !== undefined && !this.#session.isLost && !isFull) return this.#session;
    this.#session?.close();
    const session = await this.#open();
    this.#session = session;
    this.#names = new Map();
    this.#characters = 0;
    this.#timeoutMs = -1;
    await session.query(SETTINGS);
    return session;
  }
}
