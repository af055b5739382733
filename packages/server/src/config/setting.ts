import type { SettingType } from './setting-type.js';

/** The sections of the documentation, in order. */
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
  /** The environment variable; the flag is derived from it. */
  readonly env: string;
  readonly type: SettingType<T>;
  /** The default, as a user would write it. Without one the setting is undefined if it is not given. */
  readonly default?: string;
  /** Describes the setting in sentences. `--help` shows only the first one. */
  readonly doc: string;
}

/** The type of a row's value; with undefined if there is no default. */
export type SettingValue<Row> = Row extends { readonly type: SettingType<infer T> }
  ? Row extends { readonly default: string }
    ? T
    : T | undefined
  : never;

/**
 * Returns the flag of an environment variable, without dashes: `max-channels` for `REALTIME_MAX_CHANNELS`.
 */
export function flagOf(env: string): string {
  return withoutPrefix(env).toLowerCase().replaceAll('_', '-');
}

/** The prefix of all variables except DATABASE_URL, which other programs use too. */
export const ENV_PREFIX = 'REALTIME_';

/** Returns `MAX_CHANNELS` for `REALTIME_MAX_CHANNELS`, and a name without the prefix unchanged. */
export function withoutPrefix(env: string): string {
  return env.startsWith(ENV_PREFIX) ? env.slice(ENV_PREFIX.length) : env;
}
