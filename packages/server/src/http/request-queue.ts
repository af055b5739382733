import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { markFull, UpgradeRequest } from './websocket-only-request.js';

/** Requests of one socket whose answers are not written yet; one more destroys the socket. */
export const MAX_PIPELINED = 16;

/** A request, its response, and the handler that will write it. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly handle: RequestListener;
}

/** Why a request is not handled: the socket has too many, or it asks for an upgrade behind another request. */
export type RefusedRequest = 'pipelined' | 'upgrade';

/** Where a request that could not be read stands among the requests of its socket. */
export type BrokenRequest = 'unanswered' | 'answered' | 'behind-others';

/**
 * Handles the requests of one socket one after the other. Node parses pipelined requests as they arrive and
 * starts them all: here the next one starts when the answer before it has been written, so that a client that
 * reads nothing holds one answer in memory.
 */
export class RequestQueue {
  readonly #socket: Socket;
  readonly #waiting: Exchange[] = [];
  #current: Exchange | undefined;
  #newest: IncomingMessage | undefined;
  #isClosing = false;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Whether a request has not been answered yet. */
  get isBusy(): boolean {
    return this.#current !== undefined;
  }

  /** Whether the socket only waits for its peer: to close it, or to send the rest of an answered request. */
  get isWaitingForPeer(): boolean {
    return !this.isBusy && (this.#isClosing || this.#newest?.complete === false);
  }

  /** Adds a request; undefined: it is handled, or the socket takes none any more. */
  add(exchange: Exchange): RefusedRequest | undefined {
    // Node parses the rest of a packet also when its socket was destroyed.
    if (this.#isClosing) return undefined;
    const { request } = exchange;
    if (request instanceof UpgradeRequest && request.isRefusedUpgrade) return 'upgrade';
    if (this.#waiting.length + 1 >= MAX_PIPELINED) return 'pipelined';
    this.#newest = request;
    if (this.#current === undefined) this.#start(exchange);
    else this.#waiting.push(exchange);
    if (this.#waiting.length + 1 === MAX_PIPELINED) markFull(this.#socket, true);
    return undefined;
  }

  /** Takes no further request, and ends the socket once those before are answered. */
  closeWhenAnswered(): void {
    this.#isClosing = true;
    if (!this.isBusy) this.#socket.end();
  }

  destroy(): void {
    this.#isClosing = true;
    this.#socket.destroy();
  }

  /** Takes no further request. Returns what a request that could not be read waits for. */
  broken(): BrokenRequest {
    this.#isClosing = true;
    const isNew = this.#newest?.complete !== false;
    if (!this.isBusy) return isNew ? 'unanswered' : 'answered';
    if (isNew) return 'behind-others';
    if (this.#current?.request === this.#newest) {
      if (this.#current?.response.headersSent === true) return 'behind-others';
      this.#current = undefined; // it gets no other answer
      return 'unanswered';
    }
    this.#waiting.pop(); // it is the newest
    return 'behind-others';
  }

  #start(exchange: Exchange): void {
    this.#current = exchange;
    exchange.response.once('close', () => this.#answered());
    exchange.handle(exchange.request, exchange.response);
  }

  #answered(): void {
    this.#current = undefined;
    // After `Connection: close` Node ends the socket: what is pipelined behind it is not handled.
    if (!this.#socket.writable) return;
    if (this.#waiting.length + 1 === MAX_PIPELINED) markFull(this.#socket, false);
    const next = this.#waiting.shift();
    if (next !== undefined) this.#start(next);
    // Destroyed now, it would be reset if more bytes have arrived, and the answers could be lost on the way.
    else if (this.#isClosing) this.#socket.end();
  }
}
