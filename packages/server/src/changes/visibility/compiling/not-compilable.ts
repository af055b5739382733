/** Only PostgreSQL can evaluate the expression. `message` says why, in a clause such as `it has the operator ~`. */
export class NotCompilable extends Error {
  override readonly name = 'NotCompilable';
}
