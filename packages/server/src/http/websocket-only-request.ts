import { IncomingMessage } from 'node:http';

/**
 * A request that is upgraded only to WebSocket. Node passes every request with an `Upgrade` header to the
 * upgrade listener. An HTTP client that offers h2c on its first request (Java's does, and `curl --http2`)
 * would then get no answer from the routes. RFC 9110, section 7.8: a server ignores an upgrade that it does
 * not want.
 */
export class UpgradeRequest extends IncomingMessage {
  // Only declared: the parent's constructor sets it before fields of this class are initialised.
  private declare isAsked: boolean;

  /**
   * Node's parser sets it after the header, and reads it before it passes the socket to the upgrade listener.
   */
  get upgrade(): boolean {
    return this.isAsked && (this.method === 'CONNECT' || this.headers.upgrade?.toLowerCase() === 'websocket');
  }

  set upgrade(asked: boolean | null) {
    this.isAsked = asked === true;
  }
}
