import type {
  Connected,
  ErrorBody,
  PresenceMap,
  PresenceState,
  RowChange,
  ServerMessage,
} from '@goforward/realtime-protocol';
import { type ClientOptions, WebSocket } from 'ws';
import type { TestServer } from './test-server.js';
import { Watch } from './watch.js';
import { problemOnTheWire } from './wire.js';

/** The fields of all payloads at once: a test reads those that its message has. */
interface AnyPayload extends Connected, Omit<ErrorBody, 'limit'> {
  readonly limit: number;
  readonly state: PresenceState;
  readonly joins: PresenceMap;
  readonly updates: PresenceMap;
  readonly leaves: PresenceMap;
  readonly expires_at: string;
  readonly message: string;
  readonly n: number;
  readonly change: RowChange;
  readonly subscription_ids: readonly string[];
  readonly rows: readonly Readonly<Record<string, unknown>>[];
  readonly more: boolean;
}

export type Received = Omit<ServerMessage, 'payload'> & { readonly payload: AnyPayload };

export interface ConnectOptions {
  readonly token?: string;
  /** Further query options, without a question mark: `echo=false&presence=diff`. */
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly protocols?: readonly string[];
  /** The local address to connect from, for limits by IP address; any loopback address. */
  readonly from?: string;
}

/** The close code and reason that the client received. */
export interface Ending {
  readonly code: number;
  readonly reason: string;
}

/**
 * A WebSocket client that keeps all messages, validates them against the schemas, and can wait for a message.
 */
export class TestClient {
  readonly socket: WebSocket;
  readonly received: Received[] = [];
  /** The messages as they were sent. */
  readonly texts: string[] = [];
  /** Resolves when the socket has closed; never rejects. */
  readonly closed: Promise<Ending>;
  readonly #watch = new Watch();
  /** The first violation of the protocol's schemas. */
  #problem: string | undefined;
  #taken = 0;

  constructor(url: string, protocols: readonly string[], options: ClientOptions) {
    this.socket = new WebSocket(url, [...protocols], options);
    this.socket.on('message', (data: Buffer) => {
      const text = data.toString();
      this.texts.push(text);
      const message = JSON.parse(text) as Received;
      this.#problem ??= problemOnTheWire(message);
      this.received.push(message);
      this.#watch.notify();
    });
    this.socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => {
        resolve({ code, reason: String(reason) });
        this.#watch.notify();
      });
    });
  }

  /**
   * Returns the next message of this type and event after those already returned; skips messages in between.
   */
  next(
    type: string,
    event?: string,
    matches: (message: Received) => boolean = () => true,
  ): Promise<Received> {
    const find = () => {
      if (this.#problem !== undefined) throw new Error(this.#problem);
      while (this.#taken < this.received.length) {
        const message = this.received[this.#taken];
        this.#taken += 1;
        if (message?.type !== type || (event !== undefined && message.event !== event)) continue;
        if (matches(message)) return message;
      }
      if (this.socket.readyState === WebSocket.CLOSED) throw new Error('the connection closed');
      return undefined;
    };
    const seen = () => this.received.map((message) => `${message.type}/${message.event}`).join(' ');
    return this.#watch.until(find, () => `${type}/${event ?? '*'} among ${seen()}`);
  }

  /** Returns the next `count` messages of this type. */
  async take(count: number, type: string, event?: string): Promise<Received[]> {
    const taken: Received[] = [];
    while (taken.length < count) taken.push(await this.next(type, event));
    return taken;
  }

  /** Returns all messages of this type and event so far, also those already returned by `next`. */
  all(type: string, event?: string): Received[] {
    return this.received.filter(
      (message) => message.type === type && (event === undefined || message.event === event),
    );
  }

  send(message: unknown): void {
    this.socket.send(
      typeof message === 'string' || Buffer.isBuffer(message) ? message : JSON.stringify(message),
    );
  }

  /** Sends a ping and waits for its reply, so that everything the server had queued before has arrived. */
  async settle(): Promise<void> {
    const ref = `settle-${this.received.length}-${Math.random()}`;
    this.send({ type: 'ping', event: 'ping', ref });
    await this.next('reply', undefined, (message) => message.ref === ref);
  }

  /** Closes the connection and waits until it is closed. */
  async close(): Promise<Ending> {
    this.socket.close(1000);
    return this.closed;
  }
}

/** Connects without waiting for the result, for handshakes that may be refused. */
export function dial(server: TestServer, channel: string, options: ConnectOptions = {}): TestClient {
  const { token, query, headers = {}, protocols = [], from = '127.0.0.1' } = options;
  const parts = [token === undefined ? '' : `token=${token}`, query ?? ''].filter((part) => part !== '');
  const search = parts.length === 0 ? '' : `?${parts.join('&')}`;
  const url = `ws://127.0.0.1:${server.port}/realtime/channels/${channel}/ws${search}`;
  return new TestClient(url, protocols, { headers, localAddress: from });
}

/** Connects a user and waits for `connected`. */
export async function join(
  server: TestServer,
  channel: string,
  userId: string,
  options: ConnectOptions & { readonly role?: string } = {},
): Promise<TestClient> {
  const token = options.token ?? (await server.token(userId, options.role));
  const client = dial(server, channel, { ...options, token });
  await client.next('system', 'connected');
  return client;
}
