import { parseArgs } from 'node:util';
import { settingFlags } from '../config/describe-settings.js';
import { type LoadedSettings, loadSettings, readEnvFile } from '../config/load-settings.js';
import { StartupError } from '../lib/startup-error.js';

interface ParsedArguments {
  /** The options of the command itself. */
  readonly own: Readonly<Record<string, string | undefined>>;
  readonly loaded: LoadedSettings;
}

/** The settings that flags, environment and `.env` make together, and the command's own options beside them. */
export function settingsOfArguments(
  args: readonly string[],
  ownOptions: readonly string[] = [],
): ParsedArguments {
  const known = new Set([...settingFlags, ...ownOptions]);
  const flags: Record<string, string> = {};
  const own: Record<string, string> = {};
  for (const token of tokensOf(args, known)) {
    if (token.kind === 'positional') throw wrong(`Unexpected argument ${JSON.stringify(token.value)}.`);
    if (token.kind !== 'option') continue;
    if (!known.has(token.name)) {
      // What stands behind it may be its value or not; its name is refused before anybody asks.
      flags[token.name] = token.value ?? '';
      break;
    }
    // What looks like the next flag is no value; one that begins so can be given behind a `=`.
    if (token.value === undefined || (!token.inlineValue && token.value.startsWith('--')))
      throw wrong(`${token.rawName} needs a value: ${token.rawName} <value>.`);
    (ownOptions.includes(token.name) ? own : flags)[token.name] = token.value;
  }
  return { own, loaded: loadSettings({ flags, env: process.env, envFile: readEnvFile(process.cwd()) }) };
}

function tokensOf(args: readonly string[], known: ReadonlySet<string>) {
  const options = Object.fromEntries([...known].map((name) => [name, { type: 'string' as const }]));
  return parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true }).tokens;
}

function wrong(message: string): StartupError {
  return new StartupError(message, { exitCode: 2 });
}
