import { parseArgs } from 'node:util';
import { settingFlags } from '../config/describe-settings.js';
import { type LoadedSettings, loadSettings, readEnvFile } from '../config/load-settings.js';
import { closeMatch } from '../lib/nearest-word.js';
import { StartupError } from '../lib/startup-error.js';

interface ParsedArguments {
  /** The options of the command itself. */
  readonly options: Readonly<Record<string, string | undefined>>;
  /** The settings that flags, environment and `.env` make together. */
  readonly loaded: LoadedSettings;
}

/** Parses the arguments of a command: its own options, and flags of settings. Throws a StartupError for invalid ones. */
export function parseArguments(
  args: readonly string[],
  commandOptions: readonly string[] = [],
): ParsedArguments {
  const known = new Set([...commandOptions, ...settingFlags]);
  const flags: Record<string, string> = {};
  const options: Record<string, string> = {};
  for (const token of tokensOf(args, known)) {
    if (token.kind === 'positional') throw invalid(`Unexpected argument ${JSON.stringify(token.value)}.`);
    if (token.kind !== 'option') continue;
    if (!known.has(token.name)) throw invalid(unknownFlag(token.rawName, known));
    // A value that begins with dashes must be given after `=`: otherwise it is the next flag.
    if (token.value === undefined || (!token.inlineValue && token.value.startsWith('--')))
      throw invalid(`${token.rawName} needs a value: ${token.rawName} <value>.`);
    (commandOptions.includes(token.name) ? options : flags)[token.name] = token.value;
  }
  return { options, loaded: loadSettings({ flags, env: process.env, envFile: readEnvFile(process.cwd()) }) };
}

function tokensOf(args: readonly string[], known: ReadonlySet<string>) {
  const options = Object.fromEntries([...known].map((name) => [name, { type: 'string' as const }]));
  return parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true }).tokens;
}

function unknownFlag(flag: string, known: ReadonlySet<string>): string {
  const meant = closeMatch(flag.replace(/^-+/, ''), known);
  return `Unknown flag ${flag}. ${meant === undefined ? '--help lists the flags.' : `Did you mean --${meant}?`}`;
}

function invalid(message: string): StartupError {
  return new StartupError(message, { exitCode: 2 });
}
