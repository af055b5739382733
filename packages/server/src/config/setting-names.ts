import { isClose, type Near, nearest } from '../lib/nearest-word.js';
import { ENV_PREFIX, flagOf, withoutPrefix } from './setting.js';
import { isServiceLink, SERVICE_LINK_ADVICE, settingError } from './setting-error.js';
import type { SettingSources } from './setting-sources.js';
import { SETTING_ROWS } from './settings-table.js';

/** Throws a StartupError for the first unknown name: its author believes that the setting is in effect. */
export function rejectUnknownNames({ flags, env, envFile }: SettingSources): void {
  const variables = new Set(
    SETTING_ROWS.flatMap(({ env: own, file }) => (file === undefined ? [own] : [own, file.env])),
  );
  const knownFlags = new Set([...variables].map(flagOf));
  for (const [flag, text] of Object.entries(flags)) {
    if (text === undefined || knownFlags.has(flag)) continue;
    const near = nearest(flag, knownFlags);
    throw settingError(`Unknown flag --${flag}. ${suggestion(flag, near, (name) => `--${name}`)}`);
  }
  for (const [source, where] of [
    [env, ''],
    [envFile, ' in .env'],
  ] as const) {
    for (const [name, text] of Object.entries(source)) {
      if (!text || !name.startsWith(ENV_PREFIX) || variables.has(name)) continue;
      throw settingError(`Unknown setting ${name}${where}. ${fixFor(name, text, variables)}`);
    }
  }
}

function fixFor(name: string, text: string, variables: ReadonlySet<string>): string {
  if (isServiceLink(name, text)) return SERVICE_LINK_ADVICE;
  const short = withoutPrefix(name);
  // Compared without the prefix, so that REALTIME_DATABASE_URL finds DATABASE_URL.
  const byShort = new Map([...variables].map((variable) => [withoutPrefix(variable), variable]));
  return suggestion(short, nearest(short, byShort.keys()), (found) => byShort.get(found) ?? found);
}

function suggestion(name: string, near: Near | undefined, full: (name: string) => string): string {
  if (near === undefined) return '';
  return isClose(name, near)
    ? `Did you mean ${full(near.word)}?`
    : `The nearest setting is ${full(near.word)}.`;
}
