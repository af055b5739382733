import type { SqlSession } from '../../../postgres/connection/sql-session.js';
import { type Deadline, NotDecided } from '../deadline.js';
import type { EvaluationFunction } from './evaluation-function.js';
import { EvaluationSession } from './evaluation-session.js';

/**
 * Runs evaluation functions in a bounded number of sessions, which it opens when they are needed, so that no call waits
 * for a slow one while there is another session.
 */
export class EvaluationSessions {
  readonly #open: () => Promise<SqlSession>;
  readonly #max: number;
  readonly #idleMs: number;
  readonly #all: EvaluationSession[] = [];
  readonly #idle: EvaluationSession[] = [];
  /** Callers that wait for a session, in their order. */
  readonly #waiting: ((session: EvaluationSession) => void)[] = [];

  /** `idleMs`: how long a connection stays open without a call. */
  constructor(open: () => Promise<SqlSession>, max: number, idleMs: number) {
    this.#open = open;
    this.#max = max;
    this.#idleMs = idleMs;
  }

  /**
   * Calls a function with a statement_timeout in ms; returns its rows. Throws NotDecided after the deadline. `onStart`:
   * called when there is a session that has the function.
   */
  async call<Row extends object>(
    evaluation: EvaluationFunction,
    values: readonly unknown[],
    timeoutMs: number,
    deadline?: Deadline,
    onStart?: () => void,
  ): Promise<Row[]> {
    const session = this.#takeIdle(evaluation) ?? (await this.#nextFree());
    try {
      // The caller has given up while it waited for a session.
      if (deadline?.isOver === true) throw new NotDecided();
      return await session.call<Row>(evaluation, values, timeoutMs, onStart);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#idle.push(session);
      else next(session);
    }
  }

  close(): void {
    for (const session of this.#all) session.close();
  }

  /** Takes an idle session: best one that has the function, else one that need not connect. */
  #takeIdle({ key }: EvaluationFunction): EvaluationSession | undefined {
    const withFunction = this.#idle.findLastIndex((session) => session.has(key));
    const at = withFunction >= 0 ? withFunction : this.#idle.findLastIndex(({ isOpen }) => isOpen);
    return at >= 0 ? this.#idle.splice(at, 1)[0] : this.#idle.pop();
  }

  async #nextFree(): Promise<EvaluationSession> {
    if (this.#all.length === this.#max) return new Promise((resolve) => this.#waiting.push(resolve));
    const session = new EvaluationSession(this.#open, this.#idleMs);
    this.#all.push(session);
    return session;
  }
}
