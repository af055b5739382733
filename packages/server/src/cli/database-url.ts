import type { Command } from './command.js';
import { parseArguments } from './parse-arguments.js';
import { databaseUrl } from './with-database.js';

/** `database-url`: prints the connection string of the server's database, password included, and nothing else. */
export const databaseUrlCommand: Command = {
  name: 'database-url',
  summary: "Print the connection string of the server's database",
  usage: '[options]',
  help: () => `Prints DATABASE_URL, or where the embedded PostgreSQL of the data folder listens while the server runs.
The string holds the password: use it as in psql "$(…)", and do not log it.

Takes the flags of start, such as --data-dir.`,
  run: async (args) => {
    const { loaded } = parseArguments(args, []);
    process.stdout.write(`${await databaseUrl(loaded.settings)}\n`);
    return 0;
  },
};
