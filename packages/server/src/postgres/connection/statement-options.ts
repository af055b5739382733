/** How statements that a user causes are bounded. */
export interface StatementOptions {
  /**
   * Aborts when nobody waits for the result any more: a statement that waits never starts, and a running one is
   * cancelled. The call then rejects with the signal's reason.
   */
  readonly signal?: AbortSignal;
  /**
   * How long one statement may take, in ms, before it is cancelled from here and fails with StatementTimeout. Well above
   * its `statement_timeout`, which does not end what PostgreSQL cannot interrupt.
   */
  readonly limitMs?: number;
}

/**
 * A statement that was cancelled from here because it took too long. It looks like the error that PostgreSQL raises for
 * its own `statement_timeout`.
 */
export class StatementTimeout extends Error {
  readonly code = '57014';
  readonly severity = 'ERROR';

  constructor() {
    super('canceling statement due to statement timeout');
    this.name = 'StatementTimeout';
  }
}

/** No connection is free, or too many statements could not be cancelled. The database itself may be well. */
export class PoolExhausted extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PoolExhausted';
  }
}

/** A pool starts nothing more until one of its abandoned statements ends. */
export class TooManyAbandoned extends PoolExhausted {
  constructor(count: number) {
    super(`${count} statements could not be cancelled`);
    this.name = 'TooManyAbandoned';
  }
}

/** Work in a transaction failed with `cause` and was rolled back: the connection works, whatever SQLSTATE was raised. */
export class RolledBack extends Error {
  constructor(cause: unknown) {
    super('the transaction was rolled back', { cause });
    this.name = 'RolledBack';
  }
}
