import { type AuthFailureReason, ProtocolError } from '@goforward/realtime-protocol';
import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import { RateLimitedLog } from '../lib/rate-limited-log.js';
import { TokenRefusal } from './token-refusal.js';

/** The client's address, and the channel that it asked for. */
export interface RefusedRequest {
  readonly address: string;
  readonly channel?: string | undefined;
}

/** Logs refused tokens and origins, with the setting that decides: at most one line per cause in 10 s. */
export class RefusalLog {
  readonly #log: RateLimitedLog<AuthFailureReason | 'origin'>;

  constructor(log: Log, clock: Clock) {
    this.#log = new RateLimitedLog(log, clock);
  }

  /** Logs a refused token or origin, and ignores any other error. */
  report(error: unknown, { address, channel }: RefusedRequest): void {
    const request = { address, ...(channel === undefined ? {} : { channel }) };
    if (error instanceof TokenRefusal) {
      const { reason, logMessage } = error;
      this.#log.info(reason, { reason, ...request }, `Authentication failed: ${logMessage}`);
    } else if (error instanceof ProtocolError && error.code === 'ORIGIN_NOT_ALLOWED')
      this.#log.info('origin', request, `Origin refused: ${error.body.details ?? 'not allowed'}`);
  }
}
