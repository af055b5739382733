/**
 * Reports why the server cannot start, where the operator can fix it. The command line prints `message` as
 * one line, never a stack, and exits with `exitCode` (2: a setting is wrong, 1: anything else).
 */
export class StartupError extends Error {
  readonly exitCode: 1 | 2;

  constructor(message: string, options: { exitCode?: 1 | 2; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'StartupError';
    this.exitCode = options.exitCode ?? 1;
  }
}
