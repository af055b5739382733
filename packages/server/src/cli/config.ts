import { describeSettings } from '../config/describe-settings.js';
import type { Command } from './command.js';
import { parseArguments } from './parse-arguments.js';

/** `config`: prints the effective settings and where each came from. */
export const config: Command = {
  name: 'config',
  summary: 'Show the effective settings and where each came from',
  usage: '[--<setting> <value>]...',
  help: () => `Prints every setting with its effective value and its origin: flag, environment, .env or default.
Secrets are masked. Takes the flags of start.`,
  run: async (args) => {
    const { loaded } = parseArguments(args);
    process.stdout.write(`${describeSettings(loaded)}\n`);
    return 0;
  },
};
