import { CLOSE } from '@goforward/realtime-protocol';
import { WebSocket } from 'ws';

/** Receives the events of a client's socket. */
export interface SocketOwner {
  /** Returns for how many ms no more may be read from the socket: its peer sends more than it may. */
  received(data: Buffer, isBinary: boolean): number;
  pinged(body: Buffer): void;
  ponged(): void;
  /** The peer sent a close frame or violated the protocol; the answer is a close frame with `code`. */
  closeRequested(code: number): void;
}

/**
 * Bytes that one socket may bring before others have their turn. A read takes about as much, and the system reads up to 32
 * times from one socket in a row: two megabytes, each message of which is parsed, while everybody else waits.
 */
const BYTES_PER_TURN = 64 * 1024;

/** The longest time for which a socket is not read: pongs wait too. */
const MAX_PAUSE_MS = 1_000;

/** The close code of `ws` for a message in too many fragments. Our protocol uses 1009 instead. */
const TOO_MANY_FRAGMENTS = 1008;

/**
 * Uses `ws` for the handshake and for receiving only. Reports everything that `ws` would answer by itself
 * (close frames, broken frames, pings) to the owner instead, because all bytes of a connection go through its
 * one outbox, in order.
 */
export class ClientSocket extends WebSocket {
  owner: SocketOwner | undefined;
  #bytesOfTurn = 0;

  attach(owner: SocketOwner): void {
    this.owner = owner;
    this.on('message', onMessage);
    this.on('ping', onPing);
    this.on('pong', onPong);
    this.on('error', ignore);
  }

  /** Passes a message on. Reads no more for a while if this socket has brought enough, or more than it may. */
  received(data: Buffer, isBinary: boolean): void {
    const pauseMs = this.owner?.received(data, isBinary) ?? 0;
    this.#bytesOfTurn += data.length;
    if ((pauseMs === 0 && this.#bytesOfTurn < BYTES_PER_TURN) || this.isPaused) return;
    this.#bytesOfTurn = 0;
    this.pause();
    if (pauseMs === 0) setImmediate(resume, this);
    else setTimeout(resume, Math.min(pauseMs, MAX_PAUSE_MS), this).unref();
  }

  /** Called by `ws` itself after a close frame (with its reason) or a broken frame (without a reason). */
  override close(code?: number, reason?: string | Buffer): void {
    const isTooLarge = code === TOO_MANY_FRAGMENTS && reason === undefined;
    this.owner?.closeRequested(isTooLarge ? CLOSE.TOO_LARGE : (code ?? 1005));
  }
}

// Functions of the module, not closures: one set for all connections instead of four objects per connection.
function onMessage(this: WebSocket, data: unknown, isBinary: boolean): void {
  if (this instanceof ClientSocket && Buffer.isBuffer(data)) this.received(data, isBinary);
}

function onPing(this: WebSocket, body: Buffer): void {
  if (this instanceof ClientSocket) this.owner?.pinged(body);
}

function onPong(this: WebSocket): void {
  if (this instanceof ClientSocket) this.owner?.ponged();
}

function resume(socket: ClientSocket): void {
  socket.resume();
}

/** `close` has handled the receiver's errors already; without a listener they would end the process. */
function ignore(): void {
  return;
}
