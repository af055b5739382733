import type { Sql } from '../sql/sql.js';

/** A reader that can be notified polls after this time at the latest, in ms. */
const MAX_WAIT_MS = 5_000;

/**
 * Decides how long the reader of the outbox waits, and whether writers notify it. A NOTIFY in every
 * transaction costs writers more than half of their throughput, so they notify only while the reader holds an
 * advisory lock that means "asleep". A writer that found the reader awake holds the lock in shared mode until
 * it has committed. So when the reader gets the lock exclusively, no writer is about to commit without
 * notifying.
 */
export class PollInterval {
  readonly #lock: () => string;
  #canBeNotified = false;
  #hasLock = false;
  #isWoken = false;
  #wake: (() => void) | undefined;

  /** `lock` returns the key of the advisory lock, as SQL. */
  constructor(lock: () => string) {
    this.#lock = lock;
  }

  /**
   * Starts with a new session, which holds no lock. Where prepared transactions are possible, writers are
   * never asked to notify: a transaction that has notified cannot be prepared for two-phase commit.
   */
  async begin(session: Sql): Promise<void> {
    this.#hasLock = false;
    const [row] = await session.query<{ may: boolean }>(
      `SELECT current_setting('max_prepared_transactions')::int = 0 AS may`,
    );
    this.#canBeNotified = row?.may === true;
  }

  /** Ends the current wait, or the next one at once. */
  wake(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  /**
   * Waits once. With the lock: until it is woken, then releases the lock. Without it: tries to get the lock,
   * and returns at once when that succeeds, since transactions that committed just before must be read first.
   * Otherwise (writers are about to commit, or must not notify) waits `ms`. Returns whether it has or had the
   * lock.
   */
  async wait(session: Sql, ms: number): Promise<boolean> {
    if (this.#hasLock) {
      await this.#waitFor(MAX_WAIT_MS);
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

  /** Releases the lock: writers stop notifying. */
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
