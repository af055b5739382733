import type { Undecided } from '../visibility/authorizer.js';

/** A page that took longer than this is slow, in ms: live, most of the time for all others would be gone with it. */
const SLOW_PAGE_MS = 50;
/** How long a member that waited for others gets quick pages before it goes live again, in ms. */
const QUIET_MS = 1_000;
/**
 * The same for one that was slow itself, in ms: as long as live changes do not ask about it again after a slow
 * evaluation.
 */
const QUIET_AFTER_SLOW_MS = 10_000;

/**
 * The way of one member to the live stream. `shared`: it gets its pages together with others, and waits for nobody who
 * is slow. `own`: it was slow, and its user gets pages alone.
 */
export class Lane {
  kind: 'shared' | 'own' = 'shared';
  #quietMs = 0;
  #slowAt = 0;

  /** The member was not decided in time. */
  undecided(why: Undecided, now: number): void {
    if (why === 'slow') this.kind = 'own';
    this.#slowAt = now;
    this.#quietMs = Math.max(this.#quietMs, why === 'slow' ? QUIET_AFTER_SLOW_MS : QUIET_MS);
  }

  /** The member got a page, for which PostgreSQL was asked and answered in so many ms. */
  decided(ms: number, now: number): void {
    if (ms <= SLOW_PAGE_MS) return;
    this.#slowAt = now;
    this.#quietMs = Math.max(this.#quietMs, this.kind === 'own' ? QUIET_AFTER_SLOW_MS : QUIET_MS);
  }

  /** Whether pages have been quick for long enough that live changes need not wait for the member. */
  isQuick(now: number): boolean {
    return now - this.#slowAt >= this.#quietMs;
  }
}
