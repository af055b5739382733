/**
 * Limits how many members get a page together. After a page that was decided for none of them it is half as many, until
 * the one that PostgreSQL does not answer about is alone.
 */
export class CohortSize {
  #limit = Number.POSITIVE_INFINITY;

  get limit(): number {
    return this.#limit;
  }

  /** A page for `size` members was decided for some of them, or for none. */
  tried(size: number, hasProgress: boolean): void {
    this.#limit = hasProgress ? 2 * this.#limit : Math.max(1, size >> 1);
  }
}
