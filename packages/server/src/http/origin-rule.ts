import { ProtocolError } from '@goforward/realtime-protocol';
import { isLoopbackHost } from '../lib/ip-range.js';
import { quotedText } from '../lib/quoted-text.js';
import { parseUrl } from '../lib/url.js';

/** Hosts that an unconfigured server accepts. Any other host reached this machine by DNS rebinding. */
const LOCAL_NAMES = ['localhost', '127.0.0.1', '[::1]'];

/**
 * Decides which origins may use the server, by HTTP and WebSocket: requests without an `Origin`, from the
 * request's own host, from loopback to loopback, and from a listed origin.
 */
export class OriginRule {
  readonly #allowed: ReadonlySet<string>;
  readonly #localNamesOnly: boolean;

  /** `localNamesOnly`: also rejects a `Host` other than localhost, 127.0.0.1 and [::1]. */
  constructor(allowed: readonly string[], localNamesOnly: boolean) {
    this.#allowed = new Set(allowed);
    this.#localNamesOnly = localNamesOnly;
  }

  /** Throws ORIGIN_NOT_ALLOWED unless requests with these headers are allowed. */
  require(origin: string | undefined, host: string | undefined): void {
    if (this.#localNamesOnly && !LOCAL_NAMES.includes(urlOf('http:', host)?.hostname ?? '')) {
      throw new ProtocolError('ORIGIN_NOT_ALLOWED', {
        details: `An unconfigured server answers only to ${LOCAL_NAMES.join(', ')}`,
      });
    }
    if (origin === undefined || this.#allows(origin, host)) return;
    throw new ProtocolError('ORIGIN_NOT_ALLOWED', {
      details: `The origin ${quotedText(origin)} is not in REALTIME_ALLOWED_ORIGINS`,
    });
  }

  #allows(origin: string, host: string | undefined): boolean {
    if (this.#allowed.has('*') || this.#allowed.has(origin.toLowerCase())) return true;
    const page = parseUrl(origin);
    // The scheme decides the port of a Host header without one.
    const own = page && urlOf(page.protocol, host);
    if (page === undefined || own === undefined || page.host === '') return false;
    return page.host === own.host || (isLoopbackHost(page.hostname) && isLoopbackHost(own.hostname));
  }
}

function urlOf(protocol: string, host: string | undefined): URL | undefined {
  return host === undefined || /[/?#@\\]/.test(host) ? undefined : parseUrl(`${protocol}//${host}`);
}
