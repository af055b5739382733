import type { Log } from '../../lib/log.js';
import { quotedText } from '../../lib/quoted-text.js';

/** A token's issuer has few claims with user-defined texts; of more names the log would say nothing new. */
const MAX_LOGGED = 100;

/** Counts the claims that policies see as null because the database cannot hold them, and logs each name once. */
export class ReplacedClaims {
  readonly #log: Log;
  readonly #counters: { claimsReplaced: number };
  readonly #logged = new Set<string>();

  constructor(log: Log, counters: { claimsReplaced: number }) {
    this.#log = log;
    this.#counters = counters;
  }

  /** Reports the names of such claims in one token. */
  report(names: readonly string[]): void {
    this.#counters.claimsReplaced += names.length;
    for (const claim of names.map(quotedText)) {
      if (this.#logged.has(claim) || this.#logged.size >= MAX_LOGGED) continue;
      this.#logged.add(claim);
      this.#log.warn(
        { claim },
        'A claim has a text that the database cannot store, such as NUL: policies see null instead',
      );
    }
  }
}
