import { type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { CHANNEL_NAME_PATTERN, ERRORS, type PresenceMode, ProtocolError } from '@goforward/realtime-protocol';
import { PRESENCE_MODES } from '@goforward/realtime-protocol/schemas';
import type { RefusalLog } from '../auth/refusal-log.js';
import type { TokenVerifier } from '../auth/token-verifier.js';
import { requireRate } from '../channels/rate-limit.js';
import type { ConnectionRegistry } from '../connections/connection-registry.js';
import type { RefusalMemory } from '../connections/refusal-memory.js';
import type { WebSocketEndpoint } from '../connections/websocket-endpoint.js';
import type { Join } from '../handlers/join.js';
import type { Clock } from '../lib/clock.js';
import type { IdSource } from '../lib/ids.js';
import type { IpRange } from '../lib/ip-range.js';
import type { Log } from '../lib/log.js';
import type { KeyedRateLimiter } from '../lib/token-bucket.js';
import { clientAddress } from './client-address.js';
import { errorReply, invalid } from './error-reply.js';
import type { OriginRule } from './origin-rule.js';
import { handshakeToken } from './token-of-request.js';

export interface UpgradeParts {
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

/** The parameters of a valid handshake. */
interface Handshake {
  readonly channel: string;
  readonly token: string | undefined;
  readonly echo: boolean;
  readonly presence: PresenceMode;
  /** The client's position in the row changes: it receives those after it. */
  readonly cursor: string | undefined;
}

const PATH = /^\/realtime\/channels\/([^/]+)\/ws$/;
const CHANNEL_NAME = new RegExp(CHANNEL_NAME_PATTERN);
const KEY = /^[+/0-9A-Za-z]{22}==$/;
/** RFC 7230 tokens, separated by commas. */
const PROTOCOLS = /^[\w!#$%&'*+.^`|~-]+([ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*$/;
/** How long a handshake may take, in ms; it can include fetching keys. */
const HANDSHAKE_MS = 10_000;

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
      this.#upgrade(request, socket, head).catch((error: unknown) => {
        this.#parts.log.error({ err: error }, 'Handshake failed');
        this.#answer(request, socket, new ProtocolError('INTERNAL'));
      });
    });
  }

  /** Accepts no connection from now on. */
  drain(): void {
    this.#draining = true;
  }

  async #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const deadline = setTimeout(() => socket.destroy(), HANDSHAKE_MS).unref();
    try {
      const address = clientAddress(request, this.#parts.trustedProxies);
      const handshake = this.#check(request, address);
      if (handshake instanceof ProtocolError) {
        this.#parts.refusalLog.report(handshake, { address });
        this.#answer(request, socket, handshake);
      } else await this.#admit(request, socket, head, handshake, address);
    } finally {
      clearTimeout(deadline);
    }
  }

  /**
   * Checks what is always refused by an HTTP status: origin, connection rate, and the form of the handshake.
   */
  #check(request: IncomingMessage, address: string): Handshake | ProtocolError {
    const { origins, connectionRate, clock } = this.#parts;
    try {
      origins.require(request.headers.origin, request.headers.host);
      requireRate(connectionRate, address, clock());
      return readHandshake(request);
    } catch (error) {
      if (error instanceof ProtocolError) return error;
      throw error;
    }
  }

  async #admit(
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
    { channel: name, token, echo, presence, cursor }: Handshake,
    address: string,
  ): Promise<void> {
    const { verifier, join, connections, endpoint, ids, log } = this.#parts;
    try {
      const verified = token === undefined ? null : await verifier.verify(token);
      await connections.whileCounted(verified?.userId ?? null, address, () => join.settled(name, cursor));
      if (this.#draining || !socket.writable) {
        socket.destroy();
        return;
      }
      // Nothing below waits, so that limits which are checked here cannot be exceeded before the member
      // joins.
      const id = `conn_${ids.random(16)}`;
      const identity = verified ?? join.withoutToken(id, address, name);
      connections.requireRoom(identity.userId, address);
      const channel = join.open(identity, name);
      endpoint.accept(request, socket, head, { id, identity, address, echo, presence }, (connection) => {
        log.debug({ connection: id, channel: name }, 'Connection opened');
        join.enter(connection, channel, cursor);
      });
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#parts.refusalLog.report(error, { address, channel: name });
      this.#refuse(request, socket, head, error, { credential: token ?? '', address });
    }
  }

  /**
   * Refuses by a readable close code the first times, then, or if the error has no close code, by an HTTP
   * status.
   */
  #refuse(
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
    error: ProtocolError,
    { credential, address }: { credential: string; address: string },
  ): void {
    const { refusals, endpoint, counters, log } = this.#parts;
    const isReadable =
      ERRORS[error.code].close !== null && refusals.refuse(credential, address) === 'readable';
    if (!isReadable) {
      this.#answer(request, socket, error);
      return;
    }
    counters.refused(error.code);
    log.debug({ code: error.code }, 'Handshake refused');
    endpoint.refuse(request, socket, head, error);
  }

  #answer(request: IncomingMessage, socket: Socket, refusal: ProtocolError): void {
    const { counters, log } = this.#parts;
    counters.refused(refusal.code);
    log.debug({ code: refusal.code }, 'Handshake refused');
    if (!socket.writable) {
      socket.destroy();
      return;
    }
    const { status, headers, error } = errorReply(refusal);
    const text = JSON.stringify(error.body);
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.once('finish', () => socket.destroySoon());
    response.writeHead(status, {
      'content-type': 'application/json; charset=utf-8',
      'content-length': Buffer.byteLength(text),
      'cache-control': 'no-store',
      ...(refusal.code === 'METHOD_NOT_ALLOWED' ? { allow: 'GET, HEAD' } : {}),
      ...headers,
    });
    response.end(request.method === 'HEAD' ? '' : text);
  }
}

/**
 * Reads the handshake (RFC 6455, section 4.2.1). Throws NOT_FOUND for another path, METHOD_NOT_ALLOWED or
 * VALIDATION_FAILED.
 */
function readHandshake(request: IncomingMessage): Handshake {
  const { headers, method, url = '/' } = request;
  const [path = '', search = ''] = url.split('?', 2);
  const query = new URLSearchParams(search);
  const channel = decodeSegment(PATH.exec(path)?.[1]);
  if (channel === undefined) throw new ProtocolError('NOT_FOUND');
  if (!CHANNEL_NAME.test(channel)) throw invalid('name', 'is not a channel name');
  if (method !== 'GET') throw new ProtocolError('METHOD_NOT_ALLOWED');
  if (headers['sec-websocket-version'] !== '13') throw invalid('sec-websocket-version', 'must be 13');
  if (!KEY.test(headers['sec-websocket-key'] ?? ''))
    throw invalid('sec-websocket-key', 'must be 16 bytes in base64');
  if (request.httpVersion === '1.0') throw invalid('request', 'must be HTTP/1.1');
  if (!areValidProtocols(headers['sec-websocket-protocol']))
    throw invalid('sec-websocket-protocol', 'must be a list of different names');
  const echo = query.get('echo') ?? 'true';
  if (echo !== 'true' && echo !== 'false') throw invalid('echo', 'must be true or false');
  const mode = query.get('presence') ?? 'each';
  const presence = PRESENCE_MODES.find((known) => known === mode);
  if (presence === undefined) throw invalid('presence', `must be one of ${PRESENCE_MODES.join(', ')}`);
  const cursor = query.get('cursor') ?? undefined;
  return { channel, token: handshakeToken(query, headers), echo: echo === 'true', presence, cursor };
}

/** Returns whether the offered sub-protocols are valid: none, or different names. */
function areValidProtocols(offered: string | undefined): boolean {
  if (offered === undefined) return true;
  const names = offered.split(',').map((name) => name.trim());
  return PROTOCOLS.test(offered) && new Set(names).size === names.length;
}

function decodeSegment(segment: string | undefined): string | undefined {
  try {
    return segment === undefined ? undefined : decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}

/**
 * Ignores errors of a socket during its handshake: it closes by itself, and an unhandled error would end the
 * process.
 */
function ignore(): void {
  return;
}
