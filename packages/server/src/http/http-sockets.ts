import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../lib/clock.js';
import type { Log } from '../lib/log.js';
import { RateLimitedLog } from '../lib/rate-limited-log.js';
import type { Timed } from '../lib/timer-wheel.js';
import { type Exchange, RequestQueue } from './request-queue.js';
import type { SocketLimits } from './socket-limits.js';
import { UnreadAnswer } from './unread-answers.js';
import { UpgradeRequest } from './websocket-only-request.js';

/** Why the server destroyed a socket. */
export type DestroyReason = 'address' | 'server' | 'pipelined' | 'unread' | 'upgrade';

interface HttpSocketParts {
  readonly limits: SocketLimits;
  readonly counters: { destroyed(reason: DestroyReason): void };
  readonly clock: Clock;
  readonly log: Log;
}

/** How long a client may take to send the head of a request, in ms: an unfinished request must not hold a socket. */
const HEAD_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_MS = 72_000;
/** Interval of the checks of all sockets, in ms. The limits below count checks: they do not depend on the clock. */
const CHECK_MS = 1_000;
/** Checks without progress after which an unread answer ends its socket. */
const UNREAD_CHECKS = 10;
/** The same while unread answers take more than `MAX_UNREAD_BYTES` of memory. */
const UNREAD_CHECKS_IN_NEED = 1;
const MAX_UNREAD_BYTES = 64 * 1024 * 1024;
/** Checks for which a socket may wait for its peer behind its last answer, or for the rest of an answered request. */
const ENDING_CHECKS = 2;

const MESSAGES: Readonly<Record<DestroyReason, string>> = {
  address: 'Socket refused: its address has too many',
  server: 'Socket refused: the server has too many',
  pipelined: 'Socket destroyed: too many pipelined requests',
  unread: 'Socket destroyed: its client does not read the answers',
  upgrade: 'Socket destroyed: a handshake was sent together with other requests or bytes',
};

/** What a socket is checked for while it is used for HTTP. */
interface HttpSocket {
  readonly requests: RequestQueue;
  readonly unread: UnreadAnswer;
  /** Checks since it only waits for its peer. */
  waitingChecks: number;
}

/**
 * Watches the sockets of an HTTP server: their number, the requests pipelined on each, answers that are not
 * read, and sockets that stay open behind their last answer. A socket that becomes a WebSocket is only
 * counted.
 */
export class HttpSockets implements Timed {
  wheelIndex = -1;
  wheelAt = 0;
  readonly #limits: SocketLimits;
  readonly #counters: HttpSocketParts['counters'];
  readonly #log: RateLimitedLog<DestroyReason | 'accept'>;
  readonly #sockets = new Map<Socket, HttpSocket>();

  constructor({ limits, counters, clock, log }: HttpSocketParts) {
    this.#limits = limits;
    this.#counters = counters;
    this.#log = new RateLimitedLog(log, clock);
  }

  /** Creates a server that handles the requests of each socket one after the other. */
  createServer(handle: RequestListener): Server {
    const server = createServer({
      IncomingMessage: UpgradeRequest,
      headersTimeout: HEAD_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: CHECK_MS,
      // Node would answer a request without `Host` by itself, past the limits below.
      requireHostHeader: false,
    });
    this.#watchConnections(server);
    // Without a listener, a connection that cannot be accepted would end the process.
    server.once('listening', () =>
      server.on('error', (error) =>
        this.#log.error('accept', { err: error }, 'Accepting a connection failed'),
      ),
    );
    const listener: RequestListener = (request, response) => this.#add({ request, response, handle });
    server.on('request', listener);
    server.on('checkExpectation', listener);
    const withBody: RequestListener = (request, response) => {
      response.writeContinue();
      handle(request, response);
    };
    server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) =>
      this.#add({ request, response, handle: withBody }),
    );
    return server;
  }

  /** Destroys a socket; counts it, and logs it at a limited rate. */
  destroy(socket: Socket, reason: DestroyReason): void {
    this.#report(socket, reason);
    socket.destroy();
  }

  /** Stops watching a socket that the server has handed over to the upgrade listener. */
  release(socket: Socket): void {
    this.#sockets.delete(socket);
  }

  /**
   * Ends a socket with an answer to a request that could not be read. Sends nothing if the request was
   * answered already, or if others before it are not: their answers are written first.
   */
  endBroken(socket: Socket, answer: string): void {
    const state = this.#sockets.get(socket)?.requests.broken() ?? 'unanswered';
    if (state !== 'behind-others') this.end(socket, state === 'unanswered' ? answer : '');
  }

  /** Ends a socket behind these bytes. Destroys it soon if its peer neither reads them nor closes. */
  end(socket: Socket, answer: string): void {
    socket.end(answer);
    this.#watched(socket).requests.closeWhenAnswered();
  }

  /** Checks all sockets; called by the timer wheel. */
  due(now: number): number {
    this.check();
    return now + CHECK_MS;
  }

  check(): void {
    let unreadBytes = 0;
    for (const socket of this.#sockets.keys()) unreadBytes += socket.writableLength;
    const patience = unreadBytes > MAX_UNREAD_BYTES ? UNREAD_CHECKS_IN_NEED : UNREAD_CHECKS;
    for (const [socket, watched] of this.#sockets) this.#check(socket, watched, patience);
  }

  #check(socket: Socket, watched: HttpSocket, patience: number): void {
    if (watched.unread.check(socket) >= patience) {
      this.destroy(socket, 'unread');
      return;
    }
    watched.waitingChecks = watched.requests.isWaitingForPeer ? watched.waitingChecks + 1 : 0;
    if (watched.waitingChecks > ENDING_CHECKS) socket.destroy();
  }

  #watchConnections(server: Server): void {
    const closed = (socket: Socket) => {
      this.#sockets.delete(socket);
      this.#limits.remove(socket);
    };
    // One function for all sockets: there can be many thousands.
    function onClose(this: Socket): void {
      closed(this);
    }
    // Node's own listener makes a parser and timers for each socket: one that is refused costs none of it.
    const listeners = server.listeners('connection');
    server.removeAllListeners('connection');
    server.on('connection', (socket) => {
      const limit = this.#limits.add(socket);
      if (limit !== undefined) {
        this.destroy(socket, limit);
        return;
      }
      socket.on('close', onClose);
      for (const listener of listeners) listener.call(server, socket);
    });
  }

  #add(exchange: Exchange): void {
    const { socket } = exchange.request;
    const { requests } = this.#watched(socket);
    const refusal = requests.add(exchange);
    if (refusal === undefined) return;
    this.#report(socket, refusal);
    if (refusal === 'upgrade') requests.closeWhenAnswered();
    else requests.destroy();
  }

  #report(socket: Socket, reason: DestroyReason): void {
    this.#counters.destroyed(reason);
    this.#log.info(reason, { address: socket.remoteAddress }, MESSAGES[reason]);
  }

  #watched(socket: Socket): HttpSocket {
    const known = this.#sockets.get(socket);
    if (known !== undefined) return known;
    const watched = {
      requests: new RequestQueue(socket),
      unread: new UnreadAnswer(),
      waitingChecks: 0,
    };
    if (!socket.destroyed) this.#sockets.set(socket, watched);
    return watched;
  }
}
