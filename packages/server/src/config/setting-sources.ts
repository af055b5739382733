/** The texts of settings, by source. */
export interface SettingSources {
  /** By the name of the flag, without dashes. */
  readonly flags: Readonly<Record<string, string | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly envFile: Readonly<Record<string, string | undefined>>;
}

/** Where a setting was set. */
export type SettingSource = 'flag' | 'environment' | '.env';

/** Where the value of a setting comes from. A secret can come from a file that the source names. */
export type SettingOrigin = SettingSource | 'default' | `${SettingSource}, file ${string}`;
