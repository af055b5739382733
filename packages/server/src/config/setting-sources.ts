/** The texts that somebody set, by where they were set. */
export interface SettingSources {
  /** By the flag's name without its dashes. */
  readonly flags: Readonly<Record<string, string | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly envFile: Readonly<Record<string, string | undefined>>;
}

/** Where the value of a setting came from. */
export type SettingOrigin = 'flag' | 'environment' | '.env' | 'default';
