import type { Undecided } from '../visibility/authorizer.js';

/** A page that took longer than this is slow, in ms: live, most of the time for all others would be gone with it. */
const SLOW_PAGE_MS = 50;
/**
 * How long a member gets no slow page before it goes live again, in ms: a member that is slow for each change stays away,
 * and one that was slow once is back soon. `SlowEvaluations` keeps one that is slow now and then from costing others more.
 */
export const QUIET_MS = 1_000;

/**
 * The way of one member to the live stream. `shared`: it gets its pages together with others, and waits for nobody who
 * is slow. `own`: it was slow, and its user gets pages alone.
 */
export class Lane {
  kind: 'shared' | 'own' = 'shared';
  /** When the member was last slow, or had to wait for others. */
  #slowAt = Number.NEGATIVE_INFINITY;

  /** The member was not decided in time. */
  undecided(why: Undecided, now: number): void {
    if (why === 'slow') this.kind = 'own';
    this.#slowAt = now;
  }

  /** The member received a page. `ms`: how long PostgreSQL took to evaluate it. */
  decided(ms: number, now: number): void {
    if (ms > SLOW_PAGE_MS) this.#slowAt = now;
  }

  /** Whether pages have been quick for long enough that live changes need not wait for the member. */
  isQuick(now: number): boolean {
    return now - this.#slowAt >= QUIET_MS;
  }
}
