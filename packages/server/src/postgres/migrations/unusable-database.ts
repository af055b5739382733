/**
 * The database answers, but this server cannot use it. `reason` and `advice` are those of a ConnectionFault.
 */
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
