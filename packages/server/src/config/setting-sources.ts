/** The texts that somebody set, by where they were set. */
export interface SettingSources {
  /** By the flag's name without its dashes. */
  readonly flags: Readonly<Record<string, string | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly envFile: Readonly<Record<string, string | undefined>>;
}

/** Where somebody set something. */
export type SettingSource = 'flag' | 'environment' | '.env';

/** Where the value of a setting came from; a secret may come from a file that is named there. */
export type SettingOrigin = SettingSource | 'default' | `${SettingSource}, file ${string}`;
