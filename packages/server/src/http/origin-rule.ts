import { ProtocolError } from '@goforward/realtime-protocol';
import { type IpRange, ipInRanges, parseIpRange } from '../lib/ip-range.js';
import { shownText } from '../lib/shown-text.js';

/** The names that an unconfigured server answers to: any other was rebound to this machine by somebody's DNS. */
const LOCAL_NAMES = ['localhost', '127.0.0.1', '[::1]'];
const LOOPBACK: readonly IpRange[] = [parseIpRange('loopback')].filter((range) => range !== undefined);

/**
 * Which pages may talk to this server, over HTTP and WebSocket alike: those without an `Origin`, those of the
 * request's own host, loopback with loopback, and those that are listed.
 */
export class OriginRule {
  readonly #allowed: ReadonlySet<string>;
  readonly #localNamesOnly: boolean;

  /** `localNamesOnly`: a `Host` other than localhost, 127.0.0.1 and [::1] is refused too. */
  constructor(allowed: readonly string[], localNamesOnly: boolean) {
    this.#allowed = new Set(allowed);
    this.#localNamesOnly = localNamesOnly;
  }

  /** Throws ORIGIN_NOT_ALLOWED unless a request with these headers may be answered. */
  require(origin: string | undefined, host: string | undefined): void {
    if (this.#localNamesOnly && !LOCAL_NAMES.includes(urlOf('http:', host)?.hostname ?? '')) {
      throw new ProtocolError('ORIGIN_NOT_ALLOWED', {
        details: `An unconfigured server answers only to ${LOCAL_NAMES.join(', ')}`,
      });
    }
    if (origin === undefined || this.#allows(origin, host)) return;
    throw new ProtocolError('ORIGIN_NOT_ALLOWED', {
      details: `The origin ${shownText(origin)} is not in REALTIME_ALLOWED_ORIGINS`,
    });
  }

  #allows(origin: string, host: string | undefined): boolean {
    if (this.#allowed.has('*') || this.#allowed.has(origin.toLowerCase())) return true;
    const page = parse(origin);
    // The scheme decides which port a Host without one means.
    const own = page && urlOf(page.protocol, host);
    if (page === undefined || own === undefined || page.host === '') return false;
    return page.host === own.host || (isLoopback(page.hostname) && isLoopback(own.hostname));
  }
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || ipInRanges(hostname.replace(/^\[(.*)\]$/, '$1'), LOOPBACK);
}

function urlOf(protocol: string, host: string | undefined): URL | undefined {
  return host === undefined || /[/?#@\\]/.test(host) ? undefined : parse(`${protocol}//${host}`);
}

function parse(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}
