import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { StartupError } from '../lib/startup-error.js';
import { checkTogether } from './cross-checks.js';
import { readSecretFile } from './secret-file.js';
import { isServiceLink, quoted, SERVICE_LINK_ADVICE, settingError } from './setting-error.js';
import { refuseUnknownNames } from './setting-names.js';
import type { SettingOrigin, SettingSource, SettingSources } from './setting-sources.js';
import { SETTING_ROWS, type SettingKey, type SettingRow, type Settings } from './settings-table.js';

export type { SettingSources } from './setting-sources.js';

/** The effective settings, and where each came from. */
export interface LoadedSettings {
  readonly settings: Settings;
  readonly origins: Readonly<Record<SettingKey, SettingOrigin>>;
}

/** The names under which something is set. */
interface Names {
  readonly env: string;
  readonly flag: string;
}

/** A text that somebody set, and where. */
interface Found {
  readonly text: string;
  readonly source: SettingSource;
}

/** A setting's text, where it came from, and what a message about it begins with. */
interface Given {
  readonly text: string | undefined;
  readonly origin: SettingOrigin;
  readonly mustBe: string;
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

function find(row: SettingRow, sources: SettingSources): Given {
  const own = search(row, sources);
  const file = row.file === undefined ? undefined : search(row.file, sources);
  if (own !== undefined && file !== undefined && row.file !== undefined)
    throw settingError(
      `${nameIn(own.source, row)} and ${nameIn(file.source, row.file)} are both set; set only one of them.`,
    );
  if (file !== undefined && row.file !== undefined) {
    const name = nameIn(file.source, row.file);
    const text = readSecretFile(name, file.text);
    return {
      text,
      origin: `${file.source}, file ${file.text}`,
      mustBe: `${name}: ${JSON.stringify(file.text)} must hold`,
    };
  }
  if (own !== undefined)
    return { text: own.text, origin: own.source, mustBe: `${nameIn(own.source, row)} must be` };
  return { text: row.default, origin: 'default', mustBe: `${row.env} must be` };
}

/** An empty variable counts as not set, as in a shell's `${NAME:-default}`; an empty flag was typed on purpose. */
function search(names: Names, { flags, env, envFile }: SettingSources): Found | undefined {
  const [flag, variable, line] = [flags[names.flag], env[names.env], envFile[names.env]];
  if (flag !== undefined) return { text: flag, source: 'flag' };
  if (variable) return { text: variable, source: 'environment' };
  return line ? { text: line, source: '.env' } : undefined;
}

function read(row: SettingRow, { text, origin, mustBe }: Given): unknown {
  if (text === undefined) return undefined;
  const parsed = row.type.parse(text);
  if (parsed.ok) return parsed.value;
  if (origin === 'environment' && isServiceLink(row.env, text) && parsed.offending !== undefined) {
    throw settingError(`${row.env} is ${quoted(text)}. ${SERVICE_LINK_ADVICE}`);
  }
  const not = parsed.offending === undefined ? '' : `, not ${quoted(parsed.offending)}`;
  throw settingError(`${mustBe} ${row.type.expects}${not}.`);
}

function nameIn(source: SettingSource, { flag, env }: Names): string {
  if (source === 'flag') return `--${flag} (${env})`;
  return source === '.env' ? `${env} in .env` : env;
}
