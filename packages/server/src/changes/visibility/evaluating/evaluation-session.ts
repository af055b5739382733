import type { SqlSession } from '../../../postgres/connection/sql-session.js';
import type { EvaluationFunction } from './evaluation-function.js';

/** How much longer than its statement_timeout a call may take before it is cancelled from here, in ms. */
const CANCEL_AFTER_MS = 2_000;
/** A session with this many functions, or characters that name them, is replaced by a new one, without any. */
const MAX_FUNCTIONS = 500;
const MAX_CHARACTERS = 2_000_000;
/** The functions' statements are planned once: arrays of rows have no statistics by which values could matter. */
const SETTINGS = 'SET plan_cache_mode = force_generic_plan';

/**
 * Runs evaluation functions on a connection of its own, one after the other, creates them there on first use, and
 * replaces a lost connection.
 */
export class EvaluationSession {
  readonly #open: () => Promise<SqlSession>;
  #session: SqlSession | undefined;
  #names = new Map<string, string>();
  #created = 0;
  /** The characters of the keys of functions, which have the conditions that they evaluate. */
  #characters = 0;
  #timeoutMs = 0;
  #isClosed = false;

  constructor(open: () => Promise<SqlSession>) {
    this.#open = open;
  }

  /** Whether the function exists on the present connection. */
  has(key: string): boolean {
    return this.#names.has(key);
  }

  close(): void {
    this.#isClosed = true;
    this.#session?.close();
  }

  /** Calls a function with a statement_timeout in ms; returns its rows. */
  async call<Row extends object>(
    evaluation: EvaluationFunction,
    values: readonly unknown[],
    timeoutMs: number,
  ): Promise<Row[]> {
    const session = await this.#ready();
    if (this.#timeoutMs !== timeoutMs) {
      await session.query(`SET statement_timeout = ${timeoutMs}`);
      this.#timeoutMs = timeoutMs;
    }
    let name = this.#names.get(evaluation.key);
    if (name === undefined) {
      name = `evaluate_${this.#created++}`;
      await session.query(evaluation.definition(name));
      this.#names.set(evaluation.key, name);
      this.#characters += evaluation.key.length;
    }
    const placeholders = values.map((_, n) => `$${n + 1}`).join(', ');
    const call = `SELECT ${evaluation.columns} FROM pg_temp."${name}"(${placeholders})`;
    return session.query<Row>(call, values, { limitMs: timeoutMs + CANCEL_AFTER_MS });
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
