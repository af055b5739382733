import { IncomingMessage } from 'node:http';

/**
 * A request whose upgrade only WebSocket can have. Node hands every request with an `Upgrade` header to the
 * upgrade listener; an HTTP client that offers h2c on its first request (Java's does, and `curl --http2`)
 * would then get no answer from the routes. RFC 9110, section 7.8: an upgrade that is not wanted is ignored.
 */
export class UpgradeRequest extends IncomingMessage {
  // Declared only: the parent's constructor writes it before a field of this class could be made.
  private declare isAsked: boolean;

  /** Set by Node's parser once the header is read, and asked by it before it gives the socket away. */
  get upgrade(): boolean {
    return this.isAsked && (this.method === 'CONNECT' || this.headers.upgrade?.toLowerCase() === 'websocket');
  }

  set upgrade(asked: boolean | null) {
    this.isAsked = asked === true;
  }
}
