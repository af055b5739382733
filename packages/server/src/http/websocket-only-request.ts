import { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** Node keeps the response that a socket is sending here; without one, it is null or missing. */
type SendingSocket = Socket & { readonly _httpMessage?: object | null };

const IS_FULL = Symbol('takes no further request');

type LimitedSocket = Socket & { [IS_FULL]?: boolean };

/** Sets whether a further request on the socket is one too many. */
export function markFull(socket: Socket, isFull: boolean): void {
  (socket as LimitedSocket)[IS_FULL] = isFull;
}

type Decision = 'upgrade' | 'ignore' | 'refuse' | 'too-many';

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
 *
 * A request too many does go to the upgrade listener, whatever it asks for: that is the only way to keep Node
 * from parsing the rest of the packet, which can hold a thousand more.
 */
export class UpgradeRequest extends IncomingMessage {
  // Only declared: the parent's constructor sets them before fields of this class are initialised.
  private declare isAsked: boolean;
  private declare decision: Decision | undefined;

  /**
   * Node's parser sets it before the header is known, and reads it before it passes the socket to the upgrade
   * listener, and again behind later bytes of the socket: the answer must not change.
   */
  get upgrade(): boolean {
    const decision = this.#decide();
    return decision === 'upgrade' || decision === 'too-many';
  }

  set upgrade(asked: boolean | null) {
    this.isAsked = asked === true;
    // Without an upgrade listener Node sets it to false after it has read it.
    if (!this.isAsked && this.decision !== undefined) this.decision = 'ignore';
  }

  get isRefusedUpgrade(): boolean {
    return this.#decide() === 'refuse';
  }

  get isTooMany(): boolean {
    return this.#decide() === 'too-many';
  }

  #decide(): Decision {
    this.decision ??= decide(this, this.isAsked);
    return this.decision;
  }
}

function decide({ method, headers, socket }: IncomingMessage, isAsked: boolean): Decision {
  if ((socket as LimitedSocket)[IS_FULL] === true) return 'too-many';
  if (!isAsked) return 'ignore';
  if (method === 'CONNECT') return 'refuse';
  // Node versions differ in where a body ends and the next protocol begins: with a body it is a request.
  if (headers.upgrade?.toLowerCase() !== 'websocket' || hasBody(headers)) return 'ignore';
  return (socket as SendingSocket)._httpMessage ? 'refuse' : 'upgrade';
}

function hasBody(headers: IncomingMessage['headers']): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
}
