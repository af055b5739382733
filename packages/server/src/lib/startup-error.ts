/**
 * A reason why the server cannot start that its operator can mend. The command line prints `message` as
 * one line and exits with `exitCode` (2: a setting is wrong, 1: anything else); never a stack.
 */
export class StartupError extends Error {
  readonly exitCode: 1 | 2;

  constructor(message: string, options: { exitCode?: 1 | 2; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'StartupError';
    this.exitCode = options.exitCode ?? 1;
  }
}
