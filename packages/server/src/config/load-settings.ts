import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { StartupError } from '../lib/startup-error.js';
import { checkTogether } from './cross-checks.js';
import { isServiceLink, quoted, SERVICE_LINK_ADVICE, settingError } from './setting-error.js';
import { refuseUnknownNames } from './setting-names.js';
import type { SettingOrigin, SettingSources } from './setting-sources.js';
import { SETTING_ROWS, type SettingKey, type SettingRow, type Settings } from './settings-table.js';

export type { SettingSources } from './setting-sources.js';

/** The effective settings, and where each came from. */
export interface LoadedSettings {
  readonly settings: Settings;
  readonly origins: Readonly<Record<SettingKey, SettingOrigin>>;
}

/** A setting's text and where it was found. */
interface Given {
  readonly text: string | undefined;
  readonly origin: SettingOrigin;
}

/**
 * The settings from a flag, else the environment, else `.env`, else the default. Throws a StartupError of
 * one line for a name that is unknown, a value that is wrong, or values that do not fit together.
 */
export function loadSettings(sources: SettingSources): LoadedSettings {
  refuseUnknownNames(sources);
  const found = SETTING_ROWS.map((row) => ({ row, given: find(row, sources) }));
  // The row of each key parses to the type that Settings infers from the same row.
  const settings = Object.fromEntries(found.map(({ row, given }) => [row.key, read(row, given)])) as Settings;
  const origins = Object.fromEntries(found.map(({ row, given }) => [row.key, given.origin])) as Record<
    SettingKey,
    SettingOrigin
  >;
  checkTogether(settings);
  return { settings, origins };
}

/** The variables of the `.env` file in `cwd`: none when there is no such file, a StartupError when it cannot be read. */
export function readEnvFile(cwd: string): Record<string, string> {
  const path = join(cwd, '.env');
  const variables: Record<string, string> = {};
  for (const [name, text] of Object.entries(parseEnv(readText(path)))) {
    if (text !== undefined) variables[name] = text;
  }
  return variables;
}

function readText(path: string): string {
  try {
    const text = readFileSync(path, 'utf8');
    return text.startsWith('\uFEFF') ? text.slice(1) : text;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return '';
    const reason = code === 'EISDIR' ? 'it is a folder' : (code ?? 'unknown reason');
    throw new StartupError(`The settings file ${path} cannot be read: ${reason}.`, { cause });
  }
}

/** An empty variable counts as not set, as in a shell's `${NAME:-default}`; an empty flag was typed on purpose. */
function find(row: SettingRow, { flags, env, envFile }: SettingSources): Given {
  const flag = flags[row.flag];
  if (flag !== undefined) return { text: flag, origin: 'flag' };
  if (env[row.env]) return { text: env[row.env], origin: 'environment' };
  if (envFile[row.env]) return { text: envFile[row.env], origin: '.env' };
  return { text: row.default, origin: 'default' };
}

function read(row: SettingRow, { text, origin }: Given): unknown {
  if (text === undefined) return undefined;
  const parsed = row.type.parse(text);
  if (parsed.ok) return parsed.value;
  if (origin === 'environment' && isServiceLink(row.env, text) && parsed.offending !== undefined) {
    throw settingError(`${row.env} is ${quoted(text)}. ${SERVICE_LINK_ADVICE}`);
  }
  const not = parsed.offending === undefined ? '' : `, not ${quoted(parsed.offending)}`;
  throw settingError(`${nameIn(origin, row)} must be ${row.type.expects}${not}.`);
}

function nameIn(origin: SettingOrigin, row: SettingRow): string {
  if (origin === 'flag') return `--${row.flag} (${row.env})`;
  return origin === '.env' ? `${row.env} in .env` : row.env;
}
