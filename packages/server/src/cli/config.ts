import { describeSettings } from '../config/describe-settings.js';
import type { Command } from './command.js';
import { settingsOfArguments } from './settings-of-arguments.js';

/** `config`: the effective settings and where each came from. */
export const config: Command = {
  name: 'config',
  summary: 'Show the effective settings and where each came from',
  help: () => `Usage: goforward-realtime config [--<setting> <value>]...

Prints every setting with its effective value and its origin: flag, environment, .env or default.
Secrets are masked. Takes the same flags as start.`,
  run: async (args) => {
    const { loaded } = settingsOfArguments(args);
    process.stdout.write(`${describeSettings(loaded)}\n`);
    return 0;
  },
};
