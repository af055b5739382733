import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import {
  CLOSE,
  ERRORS,
  type ErrorCode,
  INVALID_HANDSHAKE_CLOSE,
  type ProtocolError,
  SUBPROTOCOL,
} from '@goforward/realtime-protocol';
import { type Server, WebSocketServer } from 'ws';
import { SYSTEM_USER } from '../auth/identity.js';
import { ClientSocket, type SocketOwner } from './client-socket.js';
import { Connection, type ConnectionEnvironment, type ConnectionOptions } from './connection.js';
import type { ConnectionRegistry } from './connection-registry.js';
import { closeFrame } from './frame.js';

/** How long a refused client may take to read the error and answer the close frame, in ms. */
const REFUSED_MS = 2_000;
/** Largest number of fragments of one message: more than real clients send, too few to exhaust memory. */
const MAX_FRAGMENTS = 1_024;

/** Returns the close code of a handshake refused with this error; undefined: such a refusal is an HTTP status. */
export function refusalCloseCode(code: ErrorCode): number | undefined {
  if (code === 'VALIDATION_FAILED') return INVALID_HANDSHAKE_CLOSE;
  return ERRORS[code].close ?? undefined;
}

/** Completes WebSocket handshakes: creates a connection, or sends a readable error and closes. */
export class WebSocketEndpoint {
  readonly #server: Server<typeof ClientSocket>;
  readonly #environment: ConnectionEnvironment;
  readonly #registry: ConnectionRegistry;
  readonly #refused = new Set<Socket>();

  constructor(maxMessageBytes: number, environment: ConnectionEnvironment, registry: ConnectionRegistry) {
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      autoPong: false,
      maxPayload: maxMessageBytes,
      maxFragments: MAX_FRAGMENTS,
      WebSocket: ClientSocket,
      handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    });
    this.#environment = environment;
    this.#registry = registry;
  }

  /** Completes the handshake. Calls `opened` with the connection at once, before anything is read from it. */
  accept(
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
    options: ConnectionOptions,
    opened: (connection: Connection) => void,
  ): void {
    this.#server.handleUpgrade(request, socket, head, (client) => {
      const connection = new Connection(socket, options, this.#environment);
      client.attach(connection);
      this.#register(connection, socket);
      opened(connection);
      connection.watch();
    });
  }

  /** A method of its own: its listener lives as long as the socket, and must not keep the request alive. */
  #register(connection: Connection, socket: Socket): void {
    const registry = this.#registry;
    registry.add(connection);
    socket.once('close', () => {
      registry.remove(connection);
      connection.socketClosed();
    });
  }

  /** Completes the handshake only to send the error, and closes with the error's close code. */
  refuse(request: IncomingMessage, socket: Socket, head: Buffer, error: ProtocolError): void {
    this.#server.handleUpgrade(request, socket, head, (client) => {
      const { encoder } = this.#environment;
      const message = encoder.encode(encoder.message('system', 'error', error.body, SYSTEM_USER));
      const code = refusalCloseCode(error.code) ?? CLOSE.INTERNAL;
      client.attach(refusedOwner(socket));
      socket.write(Buffer.concat([message, closeFrame(code, error.code)]));
      const timer = setTimeout(() => socket.destroy(), REFUSED_MS).unref();
      this.#refused.add(socket);
      socket.once('close', () => {
        clearTimeout(timer);
        this.#refused.delete(socket);
      });
    });
  }

  /** Closes every connection with the code for a restart. Each ends when its client answers. */
  closeAll(): void {
    for (const connection of this.#registry.all()) connection.close(CLOSE.SERVICE_RESTART, 'server restart');
    for (const socket of this.#refused) socket.destroy();
  }

  destroyAll(): void {
    for (const connection of this.#registry.all()) connection.destroy();
  }
}

/** Returns the owner of a refused socket: ignores everything but the peer's close frame. */
function refusedOwner(socket: Socket): SocketOwner {
  return {
    received: () => 0,
    pinged: () => undefined,
    ponged: () => undefined,
    closeRequested: () => socket.end(),
  };
}
