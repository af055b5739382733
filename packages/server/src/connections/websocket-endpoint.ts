import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { CLOSE, ERRORS, type ProtocolError, SUBPROTOCOL } from '@goforward/realtime-protocol';
import { type Server, WebSocketServer } from 'ws';
import { SYSTEM_USER } from '../auth/identity.js';
import { ClientSocket, type SocketOwner } from './client-socket.js';
import { Connection, type ConnectionEnvironment, type ConnectionOptions } from './connection.js';
import type { ConnectionRegistry } from './connection-registry.js';
import { closeFrame } from './frame.js';

/** How long a refused client may take to read why and answer the close frame. */
const REFUSED_MS = 2_000;
/** Fragments of one message: more than any client sends, fewer than exhaust memory. */
const MAX_FRAGMENTS = 1_024;

/** Takes over raw upgrade requests: completes the handshake and makes connections of them, or refuses readably. */
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

  /** Completes the handshake; `opened` is called at once with the connection, before anything is read from it. */
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
      this.#registry.add(connection);
      const registry = this.#registry;
      socket.once('close', () => {
        registry.remove(connection);
        connection.socketClosed();
      });
      opened(connection);
      connection.watch();
    });
  }

  /** Completes the handshake only to tell the error, and closes with the error's code. */
  refuse(request: IncomingMessage, socket: Socket, head: Buffer, error: ProtocolError): void {
    this.#server.handleUpgrade(request, socket, head, (client) => {
      const { encoder } = this.#environment;
      const told = encoder.encode(encoder.message('system', 'error', error.body, SYSTEM_USER));
      const code = ERRORS[error.code].close ?? CLOSE.INTERNAL;
      client.attach(endsWith(socket));
      socket.write(Buffer.concat([told, closeFrame(code, error.code)]));
      const timer = setTimeout(() => socket.destroy(), REFUSED_MS).unref();
      this.#refused.add(socket);
      socket.once('close', () => {
        clearTimeout(timer);
        this.#refused.delete(socket);
      });
    });
  }

  /** Tells every connection that the server goes away for a restart; they leave as their clients answer. */
  closeAll(): void {
    for (const connection of this.#registry.all()) connection.close(CLOSE.SERVICE_RESTART, 'server restart');
    for (const socket of this.#refused) socket.destroy();
  }

  destroyAll(): void {
    for (const connection of this.#registry.all()) connection.destroy();
  }
}

/** The owner of a refused socket: it hears nothing but the peer's close frame. */
function endsWith(socket: Socket): SocketOwner {
  return {
    received: () => undefined,
    pinged: () => undefined,
    ponged: () => undefined,
    closeDemanded: () => socket.end(),
  };
}
