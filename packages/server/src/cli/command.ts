/** One command of the command line. */
export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  help(): string;
  /** Does it and answers the exit code. Throws StartupError for what its user can mend. */
  run(args: readonly string[]): Promise<number>;
}
