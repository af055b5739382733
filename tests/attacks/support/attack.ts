import type { JWTPayload } from 'jose';
import type { Target } from './target.js';

/** What an attack counted: printed in the report, checked by the attack itself. */
export type Counts = Readonly<Record<string, number>>;

/** One way to hurt a server with an ordinary token, or with none. */
export interface Attack {
  /** The name of the file, without its suffix. */
  readonly name: string;
  /** What the attacker does, in one sentence for the report. */
  readonly what: string;
  /** Settings of the server over its defaults. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Signs tokens, where `settings` name another key than the secret of all attacks. */
  readonly sign?: (claims: JWTPayload) => Promise<string>;
  /** SQL run in the server's database before the server starts. */
  readonly schema?: string;
  /** How much the server's memory may grow, in MB; default 256. */
  readonly maxGrowthMb?: number;
  /**
   * Attacks until the signal aborts, then closes what it opened. Returns what it counted. Throws when the server breaks
   * a promise, such as a limit that does not trigger.
   */
  run(target: Target, signal: AbortSignal): Promise<Counts>;
}
