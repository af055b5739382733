import { ProtocolError } from '@goforward/realtime-protocol';
import { errors, type JWTVerifyGetKey } from 'jose';
import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import { retryAfterSeconds } from '../lib/token-bucket.js';
import { fetchKeySet } from './key-set.js';

/** The pause after each fetch, whatever its outcome and however many tokens name an unknown key, in ms. */
const COOL_DOWN_MS = 10_000;
/** The age at which the key set is fetched again in the background, in ms. */
const REFRESH_MS = 5 * 60_000;
/** The age from which a token waits for a fetch, unless the last one failed, in ms. */
const MAX_AGE_MS = 10 * 60_000;
/** The age from which keys are not used, also while the issuer does not answer, in ms. */
const MAX_AGE_WITHOUT_ISSUER_MS = 60 * 60_000;
/** How often the log repeats that the issuer does not answer, in ms. */
const REPEAT_LOG_MS = 60_000;

interface FetchedKeys {
  readonly find: JWTVerifyGetKey;
  /** When the fetch began, in ms of the clock. */
  readonly at: number;
}

/**
 * Looks up the keys that an issuer publishes at a URL. Whatever tokens arrive, there is one fetch at a time and a pause
 * after it. A token waits for a fetch only if there are no keys to try it with, or if it names an unknown key.
 */
export class RemoteKeys {
  readonly #url: string;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  #keys: FetchedKeys | undefined;
  #fetching: Promise<void> | undefined;
  #nextFetchAt = Number.NEGATIVE_INFINITY;
  /** Undefined if the last fetch succeeded. `isFatal`: no keys were young enough when it was logged. */
  #failure: { readonly isFatal: boolean; readonly loggedAt: number } | undefined;

  constructor(url: string, log: Log, clock: Clock) {
    this.#url = url;
    this.#log = log;
    this.#clock = clock;
  }

  /**
   * Returns the key for a token's header. Throws AUTH_FAILED with `retry_after` if the issuer cannot be asked, and the
   * errors of jose if no key fits.
   */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    const keys = await this.#usableKeys();
    try {
      return await keys.find(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      return (await this.#newestKeys()).find(header, token);
    }
  };

  /** Cancels a fetch, so that nothing waits for it. */
  close(): void {
    this.#closing.abort();
  }

  /** Returns keys that are young enough. */
  async #usableKeys(): Promise<FetchedKeys> {
    if (this.#age() >= REFRESH_MS) this.#startFetch();
    const maxAge = this.#failure === undefined ? MAX_AGE_MS : MAX_AGE_WITHOUT_ISSUER_MS;
    if (this.#age() >= maxAge) await this.#fetching;
    if (this.#keys === undefined || this.#age() >= MAX_AGE_WITHOUT_ISSUER_MS) throw this.#unavailable();
    return this.#keys;
  }

  /** Returns keys no older than the cool-down: one of them may have been published just now. */
  async #newestKeys(): Promise<FetchedKeys> {
    this.#startFetch();
    await this.#fetching;
    if (this.#keys === undefined || this.#failure !== undefined) throw this.#unavailable();
    return this.#keys;
  }

  #age(): number {
    return this.#keys === undefined ? Number.POSITIVE_INFINITY : this.#clock() - this.#keys.at;
  }

  /** Starts a fetch, unless one is in progress or was less than the cool-down ago. */
  #startFetch(): void {
    if (this.#fetching !== undefined || this.#clock() < this.#nextFetchAt) return;
    this.#fetching = this.#fetch().finally(() => {
      this.#fetching = undefined;
      this.#nextFetchAt = this.#clock() + COOL_DOWN_MS;
    });
  }

  async #fetch(): Promise<void> {
    const at = this.#clock();
    try {
      this.#keys = { find: await fetchKeySet(this.#url, this.#closing.signal), at };
      if (this.#failure !== undefined)
        this.#log.info({}, 'The key set of REALTIME_JWKS_URL is available again');
      this.#failure = undefined;
    } catch (error) {
      if (!this.#closing.signal.aborted) this.#failed(error instanceof Error ? error.message : String(error));
    }
  }

  /** Logs the first failure, then one a minute, and when the last keys have become too old. */
  #failed(reason: string): void {
    const now = this.#clock();
    const isFatal = this.#age() >= MAX_AGE_WITHOUT_ISSUER_MS;
    const last = this.#failure;
    if (last?.isFatal === isFatal && now - last.loggedAt < REPEAT_LOG_MS) return;
    this.#failure = { isFatal, loggedAt: now };
    if (isFatal)
      this.#log.error(
        { reason },
        'Fetching the key set of REALTIME_JWKS_URL failed; tokens are refused until it succeeds',
      );
    else
      this.#log.warn(
        { reason },
        'Refreshing the key set of REALTIME_JWKS_URL failed; the last keys stay in use for up to an hour',
      );
  }

  #unavailable(): ProtocolError {
    return new ProtocolError('AUTH_FAILED', {
      details: 'The key set for tokens is temporarily unavailable',
      fields: { retry_after: retryAfterSeconds(this.#nextFetchAt - this.#clock()) },
    });
  }
}
