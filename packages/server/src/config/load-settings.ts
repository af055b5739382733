import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { quotedText } from '../lib/quoted-text.js';
import { StartupError } from '../lib/startup-error.js';
import { checkConsistency } from './cross-checks.js';
import { readSecretFile } from './secret-file.js';
import { isServiceLink, SERVICE_LINK_ADVICE, settingError } from './setting-error.js';
import { rejectUnknownNames } from './setting-names.js';
import type { SettingOrigin, SettingSource, SettingSources } from './setting-sources.js';
import { SETTING_ROWS, type SettingKey, type SettingRow, type Settings } from './settings-table.js';

export type { SettingSources } from './setting-sources.js';

/** The effective settings, and the origin of each. */
export interface LoadedSettings {
  readonly settings: Settings;
  readonly origins: Readonly<Record<SettingKey, SettingOrigin>>;
}

/** The variable and the flag of a setting. */
interface Names {
  readonly env: string;
  readonly flag: string;
}

/** The text of a setting, and its source. */
interface Found {
  readonly text: string;
  readonly source: SettingSource;
}

/** The text of a setting, its origin, and the start of an error message about it. */
interface Given {
  readonly text: string | undefined;
  readonly origin: SettingOrigin;
  readonly mustBe: string;
}

/**
 * Loads each setting from its flag, else the environment, else `.env`, else the default. Throws a
 * StartupError of one line for an unknown name, an invalid value, or values that contradict each other.
 */
export function loadSettings(sources: SettingSources): LoadedSettings {
  rejectUnknownNames(sources);
  const found = SETTING_ROWS.map((row) => ({ row, given: findGiven(row, sources) }));
  // Settings infers the type of each value from the row that parses it.
  const settings = Object.fromEntries(
    found.map(({ row, given }) => [row.key, parseGiven(row, given)]),
  ) as Settings;
  const origins = Object.fromEntries(found.map(({ row, given }) => [row.key, given.origin])) as Record<
    SettingKey,
    SettingOrigin
  >;
  checkConsistency(settings);
  return { settings, origins };
}

/**
 * Returns the variables of the `.env` file in `cwd`, if it exists. Throws StartupError if it cannot be read or
 * has a line that sets nothing.
 */
export function readEnvFile(cwd: string): Record<string, string> {
  const path = join(cwd, '.env');
  const content = readText(path);
  const variables: Record<string, string> = {};
  for (const [name, text] of Object.entries(parseEnv(content))) {
    if (text !== undefined) variables[name] = text;
  }
  requireAssignments(content, variables);
  return variables;
}

/** `NAME=` with a quoted value, which can have several lines. */
const QUOTED_ASSIGNMENT = /^([ \t]*(?:export[ \t]+)?[\w.-]+[ \t]*=)[ \t]*(?:"[^"]*"|'[^']*'|`[^`]*`)/gm;
/** An assignment with its name, a comment, or nothing. */
const ENV_LINE = /^\s*(?:(?:export\s+)?([\w.-]+)\s*=.*|#.*)?$/s;

/** parseEnv ignores other lines, and some with an open quote. The message quotes none: it may hold a secret. */
function requireAssignments(content: string, variables: Readonly<Record<string, unknown>>): void {
  const lines = content
    .replace(
      QUOTED_ASSIGNMENT,
      (assignment, start) => start + assignment.replace(/[^\n]/g, '').replace(/\n/g, '\n#'),
    )
    .split(/\r?\n/);
  const index = lines.findIndex((line) => {
    const match = ENV_LINE.exec(line);
    return match === null || (match[1] !== undefined && variables[match[1]] === undefined);
  });
  if (index !== -1)
    throw new StartupError(`Line ${index + 1} of the settings file .env is not NAME=value.`, { exitCode: 2 });
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

function findGiven(row: SettingRow, sources: SettingSources): Given {
  const own = search(row, sources);
  const file = row.file === undefined ? undefined : search(row.file, sources);
  if (own !== undefined && file !== undefined && row.file !== undefined)
    throw settingError(
      `${nameIn(own.source, row)} and ${nameIn(file.source, row.file)} are both set. Set only one of them.`,
    );
  if (file !== undefined && row.file !== undefined) {
    const name = nameIn(file.source, row.file);
    const text = readSecretFile(name, file.text);
    return {
      text,
      origin: `${file.source}, file ${file.text}`,
      mustBe: `${name}: ${JSON.stringify(file.text)} must contain`,
    };
  }
  if (own !== undefined)
    return { text: own.text, origin: own.source, mustBe: `${nameIn(own.source, row)} must be` };
  return { text: row.default, origin: 'default', mustBe: `${row.env} must be` };
}

/** An empty variable counts as not set, as in a shell's `${NAME:-default}`; an empty flag is intended. */
function search(names: Names, { flags, env, envFile }: SettingSources): Found | undefined {
  const [flag, variable, line] = [flags[names.flag], env[names.env], envFile[names.env]];
  if (flag !== undefined) return { text: flag, source: 'flag' };
  if (variable) return { text: variable, source: 'environment' };
  return line ? { text: line, source: '.env' } : undefined;
}

function parseGiven(row: SettingRow, { text, origin, mustBe }: Given): unknown {
  if (text === undefined) return undefined;
  const parsed = row.type.parse(text);
  if (parsed.ok) return parsed.value;
  if (origin === 'environment' && isServiceLink(row.env, text) && parsed.offending !== undefined) {
    throw settingError(`${row.env} is ${quotedText(text)}. ${SERVICE_LINK_ADVICE}`);
  }
  const not = parsed.offending === undefined ? '' : `, not ${quotedText(parsed.offending)}`;
  throw settingError(`${mustBe} ${row.type.expects}${not}.`);
}

function nameIn(source: SettingSource, { flag, env }: Names): string {
  if (source === 'flag') return `--${flag} (${env})`;
  return source === '.env' ? `${env} in .env` : env;
}
