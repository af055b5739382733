import { CLOSE } from '@goforward/realtime-protocol';
import { WebSocket } from 'ws';

/** What a client's socket tells its owner. */
export interface SocketOwner {
  received(data: Buffer, isBinary: boolean): void;
  pinged(body: Buffer): void;
  ponged(): void;
  /** The peer sent a close frame (it is answered with the same code), or broke the protocol (with the code that says how). */
  closeDemanded(code: number): void;
}

/** What `ws` answers to a message in too many parts: a code that our protocol does not have. */
const TOO_MANY_PARTS = 1008;

/**
 * `ws` for the handshake and the receiving half alone. Everything that `ws` would write by itself (the
 * answer to a close frame, the close after a broken frame, pongs) is handed to the owner instead, because
 * all bytes of a connection go through its one outbox and must not overtake each other.
 */
export class ClientSocket extends WebSocket {
  owner: SocketOwner | undefined;

  attach(owner: SocketOwner): void {
    this.owner = owner;
    this.on('message', onMessage);
    this.on('ping', onPing);
    this.on('pong', onPong);
    this.on('error', ignore);
  }

  /** Called by `ws` itself when a close frame came in (with its reason) or a frame was broken (without one). */
  override close(code?: number, reason?: string | Buffer): void {
    const isTooLarge = code === TOO_MANY_PARTS && reason === undefined;
    this.owner?.closeDemanded(isTooLarge ? CLOSE.TOO_LARGE : (code ?? 1005));
  }
}

// Functions of the module, not closures: one set for all connections, not four objects for each.
function onMessage(this: WebSocket, data: unknown, isBinary: boolean): void {
  if (this instanceof ClientSocket && Buffer.isBuffer(data)) this.owner?.received(data, isBinary);
}

function onPing(this: WebSocket, body: Buffer): void {
  if (this instanceof ClientSocket) this.owner?.pinged(body);
}

function onPong(this: WebSocket): void {
  if (this instanceof ClientSocket) this.owner?.ponged();
}

/** The receiver's errors have been dealt with in `close`; without a listener they would end the process. */
function ignore(): void {
  return;
}
