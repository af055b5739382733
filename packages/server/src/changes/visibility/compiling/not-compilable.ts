/** Only PostgreSQL can evaluate the expression; `message` says why, as the end of a sentence about it. */
export class NotCompilable extends Error {
  override readonly name = 'NotExact';
}
