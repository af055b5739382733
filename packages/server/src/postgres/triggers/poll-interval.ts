import type { Sql } from '../sql/sql.js';

/** One that may be woken looks by itself after so long, in ms. */
const LONGEST_WAIT_MS = 5_000;

/**
 * How the reader of the outbox waits. A NOTIFY in every transaction costs writers more than half of their throughput, so
 * that they notify only while the reader holds a lock that says that it is asleep. Each of them holds the lock in shared
 * mode until it has committed: who gets it alone knows that nobody is about to commit without a word.
 */
export class PollInterval {
  readonly #lock: () => string;
  #canBeNotified = false;
  #hasLock = false;
  #isWoken = false;
  #wake: (() => void) | undefined;

  /** `lock`: the key of the lock, as SQL. */
  constructor(lock: () => string) {
    this.#lock = lock;
  }

  /**
   * Another session. A transaction that has notified cannot be prepared for a commit in two phases: where there may be
   * such, nobody is asked to.
   */
  async begin(session: Sql): Promise<void> {
    this.#hasLock = false;
    const [row] = await session.query<{ may: boolean }>(
      `SELECT current_setting('max_prepared_transactions')::int = 0 AS may`,
    );
    this.#canBeNotified = row?.may === true;
  }

  /** Ends the waiting, or the next one at once. */
  wake(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  /**
   * Waits until it is woken, or for `ms` where writers are about to commit; or not at all when the lock has just become
   * ours: what committed before that is to be looked for once more. Answers whether it could sleep.
   */
  async wait(session: Sql, ms: number): Promise<boolean> {
    if (this.#hasLock) {
      await this.#waitFor(LONGEST_WAIT_MS);
      await this.unlock(session);
      return true;
    }
    if (!this.#canBeNotified) {
      await this.#waitFor(ms);
      return false;
    }
    const [row] = await session.query<{ got: boolean }>(
      `SELECT pg_try_advisory_lock(${this.#lock()}) AS got`,
    );
    this.#hasLock = row?.got === true;
    if (!this.#hasLock) await this.#waitFor(ms);
    return this.#hasLock;
  }

  /** Writers need not notify any more. */
  async unlock(session: Sql): Promise<void> {
    if (!this.#hasLock) return;
    this.#hasLock = false;
    await session.query(`SELECT pg_advisory_unlock(${this.#lock()})`);
  }

  async #waitFor(ms: number): Promise<void> {
    if (!this.#isWoken) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(resolve, ms);
      });
      clearTimeout(timer);
    }
    this.#isWoken = false;
    this.#wake = undefined;
  }
}
