import type { SqlSession } from '../../../postgres/connection/sql-session.js';
import type { EvaluationFunction } from './evaluation-function.js';

/** Above so many functions a session is given up for a new one, which has none. */
const MAX_FUNCTIONS = 500;
/** The functions' statements are planned once: their tables have no statistics that a value could matter to. */
const SETTINGS = 'SET plan_cache_mode = force_generic_plan';

/** Where rows are judged: a connection of its own, with the functions that were made there; a lost one is replaced. */
export class EvaluationSession {
  readonly #open: () => Promise<SqlSession>;
  #session: SqlSession | undefined;
  #names = new Map<string, string>();
  #made = 0;
  #timeoutMs = 0;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(open: () => Promise<SqlSession>) {
    this.#open = open;
  }

  /** What the function answers, after all calls before it, within so many ms. */
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
      name = `evaluate_${this.#made++}`;
      await session.query(evaluation.definition(name));
      this.#names.set(evaluation.key, name);
    }
    const places = values.map((_, n) => `$${n + 1}`).join(', ');
    return session.query<Row>(`SELECT ${evaluation.columns} FROM pg_temp."${name}"(${places})`, values);
  }

  async #ready(): Promise<SqlSession> {
    if (this.#isClosed) throw new Error('the session is closed');
    if (this.#session !== undefined && !this.#session.isLost && this.#names.size < MAX_FUNCTIONS)
      return this.#session;
    this.#session?.close();
    const session = await this.#open();
    this.#session = session;
    this.#names = new Map();
    this.#timeoutMs = -1;
    await session.query(SETTINGS);
    return session;
  }
}
