import { type AuthFailureReason, ProtocolError } from '@goforward/realtime-protocol';
import type { Clock } from '../lib/clock.js';
import { LimitedLog } from '../lib/limited-log.js';
import type { Log } from '../lib/log.js';
import { TokenRefusal } from './token-refusal.js';

/** Where a refused request came from and what it asked for. */
export interface RefusedAt {
  readonly address: string;
  readonly channel?: string | undefined;
}

/** Logs refused tokens and origins with the setting that decided it: one line for each cause in 10 s. */
export class RefusalLog {
  readonly #lines: LimitedLog<AuthFailureReason | 'origin'>;

  constructor(log: Log, clock: Clock) {
    this.#lines = new LimitedLog(log, clock);
  }

  /** Logs a refused token or origin; other errors are not logged here. */
  refused(error: unknown, { address, channel }: RefusedAt): void {
    const at = { address, ...(channel === undefined ? {} : { channel }) };
    if (error instanceof TokenRefusal)
      this.#lines.info(
        error.reason,
        { reason: error.reason, ...at },
        `Authentication failed: ${error.sentence}`,
      );
    else if (error instanceof ProtocolError && error.code === 'ORIGIN_NOT_ALLOWED')
      this.#lines.info('origin', at, `Origin refused: ${error.body.details ?? 'not allowed'}`);
  }
}
