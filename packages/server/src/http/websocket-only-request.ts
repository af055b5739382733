import { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** Node keeps the response that a socket is sending here; without one, it is null or missing. */
type SendingSocket = Socket & { readonly _httpMessage?: object | null };

/**
 * A request that is upgraded only to WebSocket, and only on a socket that owes no answer. Node passes every
 * request with an `Upgrade` header to the upgrade listener.
 *
 * An HTTP client that offers h2c on its first request (Java's does, and `curl --http2`) would then get no
 * answer from the routes. RFC 9110, section 7.8: a server ignores an upgrade that it does not want.
 *
 * A handshake that is pipelined behind another request would take the socket while that request's response is
 * still written to it. Such a request, and CONNECT, is not passed to the upgrade listener: `isRefusedUpgrade`
 * is true, and the socket is destroyed once the earlier requests are answered.
 */
export class UpgradeRequest extends IncomingMessage {
  // Only declared: the parent's constructor sets them before fields of this class are initialised.
  private declare isAsked: boolean;
  private declare decision: 'upgrade' | 'ignore' | 'refuse' | undefined;

  /**
   * Node's parser sets it before the header is known, and reads it before it passes the socket to the upgrade
   * listener, and again behind later bytes of the socket: the answer must not change.
   */
  get upgrade(): boolean {
    return this.isAsked && this.#decide() === 'upgrade';
  }

  set upgrade(asked: boolean | null) {
    this.isAsked = asked === true;
  }

  get isRefusedUpgrade(): boolean {
    return this.isAsked && this.#decide() === 'refuse';
  }

  #decide(): 'upgrade' | 'ignore' | 'refuse' {
    this.decision ??= decide(this);
    return this.decision;
  }
}

function decide({ method, headers, socket }: IncomingMessage): 'upgrade' | 'ignore' | 'refuse' {
  if (method === 'CONNECT') return 'refuse';
  // Node versions differ in where a body ends and the next protocol begins: with a body it is a request.
  if (headers.upgrade?.toLowerCase() !== 'websocket' || hasBody(headers)) return 'ignore';
  return (socket as SendingSocket)._httpMessage ? 'refuse' : 'upgrade';
}

function hasBody(headers: IncomingMessage['headers']): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
}
