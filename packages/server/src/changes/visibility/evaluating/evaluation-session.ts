import type { SqlSession } from '../../../postgres/connection/sql-session.js';
import type { EvaluationFunction } from './evaluation-function.js';

/** A session with this many functions, or characters that name them, is replaced by a new one, without any. */
const MAX_FUNCTIONS = 500;
const MAX_CHARACTERS = 2_000_000;
/** The functions' statements are planned once: arrays of rows have no statistics by which values could matter. */
const SETTINGS = 'SET plan_cache_mode = force_generic_plan';

/**
 * Runs evaluation functions on a connection of its own, creates them there on first use, and replaces a lost
 * connection.
 */
export class EvaluationSession {
  readonly #open: () => Promise<SqlSession>;
  #session: SqlSession | undefined;
  #names = new Map<string, string>();
  #created = 0;
  /** The characters of the keys of functions, which have the conditions that they evaluate. */
  #characters = 0;
  #timeoutMs = 0;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(open: () => Promise<SqlSession>) {
    this.#open = open;
  }

  /** Calls a function once earlier calls are done, with a statement_timeout in ms; returns its rows. */
  call<Row extends object>(
    evaluation: EvaluationFunction,
    values: readonly unknown[],
    timeoutMs: number,
  ): Promise<Row[]> {
    const queued = this.#last.then(() => this.#call<Row>(evaluation, values, timeoutMs));
    this.#last = queued.catch(() => undefined);
    return queued;
  }

  close(): void {
    this.#isClosed = true;
    this.#session?.close();
  }

  async #call<Row extends object>(
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
    return session.query<Row>(`SELECT ${evaluation.columns} FROM pg_temp."${name}"(${placeholders})`, values);
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
