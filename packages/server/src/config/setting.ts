import type { SettingType } from './setting-type.js';

/** The headings under which settings are documented, in this order. */
export const SETTING_GROUPS = [
  'Server',
  'Connections',
  'Limits',
  'Channels',
  'Authentication',
  'Database',
  'Row changes',
  'Monitoring',
] as const;

/** One row of the settings table. */
export interface Setting<T> {
  readonly group: (typeof SETTING_GROUPS)[number];
  /** The environment variable; the flag follows from it. */
  readonly env: string;
  readonly type: SettingType<T>;
  /** What stands in for a value that is not given, as a user would write it; without one the setting is undefined. */
  readonly default?: string;
  /** What the setting does, in sentences of which the first stands alone in `--help`. */
  readonly doc: string;
}

/** The type of a row's value: with undefined when there is no default. */
export type SettingValue<Row> = Row extends { readonly type: SettingType<infer T> }
  ? Row extends { readonly default: string }
    ? T
    : T | undefined
  : never;

/** The flag of an environment variable, without its dashes: `max-channels` of `REALTIME_MAX_CHANNELS`. */
export function flagOf(env: string): string {
  return withoutPrefix(env).toLowerCase().replaceAll('_', '-');
}

/** What every variable of ours begins with, but DATABASE_URL, which other programs know too. */
export const ENV_PREFIX = 'REALTIME_';

/** `MAX_CHANNELS` of `REALTIME_MAX_CHANNELS`; a name without the prefix as it is. */
export function withoutPrefix(env: string): string {
  return env.startsWith(ENV_PREFIX) ? env.slice(ENV_PREFIX.length) : env;
}
