import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { Identity } from '../auth/identity.js';
import type { RefusalLog } from '../auth/refusal-log.js';
import type { TokenVerifier } from '../auth/token-verifier.js';
import type { Channel } from '../channels/channel.js';
import { requireRate } from '../channels/rate-limit.js';
import type { ConnectionRegistry } from '../connections/connection-registry.js';
import type { RefusalMemory } from '../connections/refusal-memory.js';
import { refusalCloseCode, type WebSocketEndpoint } from '../connections/websocket-endpoint.js';
import type { Join } from '../handlers/join.js';
import type { Clock } from '../lib/clock.js';
import type { IdSource } from '../lib/ids.js';
import type { IpRange } from '../lib/ip-range.js';
import type { Log } from '../lib/log.js';
import type { KeyedRateLimiter } from '../lib/token-bucket.js';
import { clientAddress } from './client-address.js';
import { errorReply } from './error-reply.js';
import { type Handshake, type HandshakeRequest, readHandshake } from './handshake.js';
import type { HttpSockets } from './http-sockets.js';
import type { OriginRule } from './origin-rule.js';
import { rawAnswer } from './raw-answer.js';
import { UpgradeRequest } from './websocket-only-request.js';

export interface UpgradeParts {
  readonly sockets: HttpSockets;
  readonly origins: OriginRule;
  readonly trustedProxies: readonly IpRange[];
  readonly connectionRate: KeyedRateLimiter;
  readonly verifier: TokenVerifier;
  readonly join: Join;
  readonly connections: ConnectionRegistry;
  readonly refusals: RefusalMemory;
  readonly refusalLog: RefusalLog;
  readonly endpoint: WebSocketEndpoint;
  readonly ids: IdSource;
  readonly counters: { refused(code: string): void };
  readonly clock: Clock;
  readonly log: Log;
}

/** A request whose socket Node's server has handed over. */
interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Socket;
  readonly address: string;
}

/** A client that may join its channel. */
interface Admission {
  readonly id: string;
  readonly identity: Identity;
  readonly channel: Channel;
}

/** How long a handshake may take, in ms; it can include fetching keys. */
const HANDSHAKE_MS = 10_000;
const NO_BYTES = Buffer.alloc(0);

/** Turns an upgrade request into a member of a channel, or into a refusal that the client can read. */
export class UpgradeHandler {
  readonly #parts: UpgradeParts;
  #draining = false;

  constructor(parts: UpgradeParts) {
    this.#parts = parts;
  }

  attach(server: Server): void {
    server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
      socket.on('error', ignore);
      this.#parts.sockets.release(socket);
      if (request instanceof UpgradeRequest && request.isTooMany) {
        this.#parts.sockets.destroy(socket, 'pipelined');
        return;
      }
      this.#upgrade(request, socket, head).catch((error: unknown) => {
        // The socket may be a WebSocket by now: an HTTP answer would be a broken frame.
        this.#parts.log.error({ err: error }, 'Handshake failed');
        socket.destroy();
      });
    });
  }

  /** Accepts no connection from now on. */
  drain(): void {
    this.#draining = true;
  }

  async #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const { sockets, trustedProxies, refusalLog } = this.#parts;
    if (head.length > 0) {
      sockets.destroy(socket, 'upgrade');
      return;
    }
    const address = clientAddress(request, trustedProxies);
    const upgrade = { request, socket, address };
    const handshake = this.#attempt(() => this.#check(request, address));
    if (handshake instanceof ProtocolError) {
      refusalLog.report(handshake, { address });
      this.#answer(upgrade, handshake);
      return;
    }
    const deadline = setTimeout(() => socket.destroy(), HANDSHAKE_MS).unref();
    try {
      await this.#admit(upgrade, handshake);
    } finally {
      clearTimeout(deadline);
    }
  }

  /**
   * Checks what is always refused by an HTTP status: origin, connection rate, and the form of the handshake.
   */
  #check(request: IncomingMessage, address: string): Handshake {
    const { origins, connectionRate, clock } = this.#parts;
    origins.require(request.headers.origin, request.headers.host);
    requireRate(connectionRate, address, clock());
    return readHandshake(request);
  }

  async #admit(upgrade: Upgrade, { token, asked }: Handshake): Promise<void> {
    const { endpoint, join, log } = this.#parts;
    const { request, socket, address } = upgrade;
    const refuse = (error: ProtocolError, channel?: string) =>
      this.#refuse(upgrade, error, { credential: token ?? '', channel });
    if (asked instanceof ProtocolError) {
      refuse(asked);
      return;
    }
    const verified = await this.#verify(token, asked, address);
    if (!this.#isWaiting(socket)) return;
    // Nothing below waits, so that limits which are checked here cannot be exceeded before the member joins.
    const admission =
      verified instanceof ProtocolError
        ? verified
        : this.#attempt(() => this.#open(verified, address, asked.channel));
    if (admission instanceof ProtocolError) {
      refuse(admission, asked.channel);
      return;
    }
    const { id, identity, channel } = admission;
    const { echo, presence } = asked;
    endpoint.accept(request, socket, NO_BYTES, { id, identity, address, echo, presence }, (connection) => {
      log.debug({ connection: id, channel: channel.name }, 'Connection opened');
      join.enter(connection, channel, asked.cursor);
    });
  }

  /** Returns the user of the token, null for none, once the channel and row changes are ready for a join. */
  async #verify(
    token: string | undefined,
    { channel, cursor }: HandshakeRequest,
    address: string,
  ): Promise<Identity | null | ProtocolError> {
    const { verifier, join, connections } = this.#parts;
    try {
      const verified = token === undefined ? null : await verifier.verify(token);
      await connections.whileCounted(verified?.userId ?? null, address, () => join.settled(channel, cursor));
      return verified;
    } catch (error) {
      return this.#protocolError(error);
    }
  }

  /**
   * Returns whether the client still waits for the answer. A client that sends bytes before it is no WebSocket
   * client (RFC 6455, section 4.1), and nobody has read them as frames yet.
   */
  #isWaiting(socket: Socket): boolean {
    if (this.#draining || !socket.writable) socket.destroy();
    else if (socket.readableLength > 0) this.#parts.sockets.destroy(socket, 'upgrade');
    return !socket.destroyed;
  }

  #open(verified: Identity | null, address: string, name: string): Admission {
    const { join, connections, ids } = this.#parts;
    const id = `conn_${ids.random(16)}`;
    const identity = verified ?? join.withoutToken(id, address, name);
    connections.requireRoom(identity.userId, address);
    return { id, identity, channel: join.open(identity, name) };
  }

  /** Refuses by a readable close code the first times, then by an HTTP status. */
  #refuse(
    upgrade: Upgrade,
    error: ProtocolError,
    { credential, channel }: { credential: string; channel: string | undefined },
  ): void {
    const { refusals, refusalLog, endpoint, counters, log } = this.#parts;
    const { request, socket, address } = upgrade;
    refusalLog.report(error, { address, channel });
    if (refusalCloseCode(error.code) === undefined || refusals.refuse(credential, address) === 'status') {
      this.#answer(upgrade, error);
      return;
    }
    counters.refused(error.code);
    log.debug({ code: error.code }, 'Handshake refused');
    endpoint.refuse(request, socket, NO_BYTES, error);
  }

  #answer({ request, socket }: Upgrade, refusal: ProtocolError): void {
    const { sockets, counters, log } = this.#parts;
    counters.refused(refusal.code);
    log.debug({ code: refusal.code }, 'Handshake refused');
    const { status, headers } = errorReply(refusal);
    const allow: Record<string, string> = refusal.code === 'METHOD_NOT_ALLOWED' ? { allow: 'GET, HEAD' } : {};
    const withoutBody = request.method === 'HEAD';
    sockets.end(socket, rawAnswer(refusal, { status, headers: { ...allow, ...headers }, withoutBody }));
  }

  /** Returns the result of `action`, or the error that the client gets. */
  #attempt<T>(action: () => T): T | ProtocolError {
    try {
      return action();
    } catch (error) {
      return this.#protocolError(error);
    }
  }

  #protocolError(error: unknown): ProtocolError {
    if (error instanceof ProtocolError) return error;
    this.#parts.log.error({ err: error }, 'Handshake failed');
    return new ProtocolError('INTERNAL', { cause: error });
  }
}

/**
 * Ignores errors of a socket during its handshake: it closes by itself, and an unhandled error would end the
 * process.
 */
function ignore(): void {
  return;
}
