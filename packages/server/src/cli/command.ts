/** A command of the command line. */
export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** The arguments after the name, as the usage line shows them. */
  readonly usage: string;
  /** What `help` prints below the usage line. */
  help(): string;
  /** Runs it and returns the exit code. Throws StartupError for what its user can fix. */
  run(args: readonly string[]): Promise<number>;
}
