/** A database that answers and that we cannot use, for a reason of our own; the parts are those of a ConnectionFault. */
export class UnusableDatabase extends Error {
  readonly reason: string;
  readonly advice: string;

  constructor(reason: string, advice: string) {
    super(`${reason}: ${advice}`);
    this.name = 'UnusableDatabase';
    this.reason = reason;
    this.advice = advice;
  }
}
