import { connect, type Socket } from 'node:net';
import { OPCODE } from './client-frame.js';
import type { Received } from './test-client.js';
import type { TestServer } from './test-server.js';
import { Watch } from './watch.js';
import { problemOnTheWire } from './wire.js';

/** A TCP client that sends arbitrary bytes and keeps everything it receives. */
export class RawSocket {
  readonly socket: Socket;
  /** Resolves when the connection has closed for any reason. */
  readonly gone: Promise<void>;
  protected bytes: Buffer = Buffer.alloc(0);
  protected readonly watch = new Watch();
  #isGone = false;

  constructor(server: { readonly port: number }) {
    this.socket = connect({ host: '127.0.0.1', port: server.port, allowHalfOpen: true });
    this.socket.on('data', (chunk) => {
      this.bytes = Buffer.concat([this.bytes, chunk]);
      this.read();
      this.watch.notify();
    });
    this.socket.on('error', () => undefined);
    this.socket.on('end', () => this.socket.end());
    this.gone = new Promise((resolve) => {
      this.socket.on('close', () => {
        this.#isGone = true;
        resolve();
        this.watch.notify();
      });
    });
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Everything received that was not read as frames. */
  get text(): string {
    return this.bytes.toString('latin1');
  }

  /** Sends all parts in one write. */
  write(...parts: (Buffer | string)[]): void {
    this.socket.write(Buffer.concat(parts.map((part) => Buffer.from(part))));
  }

  /** Waits until `pattern` matches the received text and returns the match. */
  async sees(pattern: RegExp): Promise<RegExpExecArray> {
    return this.watch.until(
      () => pattern.exec(this.text) ?? this.#requireConnection(),
      () => `${pattern} in ${JSON.stringify(this.text.slice(0, 500))}`,
    );
  }

  /** Waits until the condition holds; it is checked when bytes have arrived and when the connection has closed. */
  async until(condition: () => boolean): Promise<void> {
    await this.watch.until(
      () => condition() || this.#requireConnection(),
      () => `a condition on ${JSON.stringify(this.text.slice(0, 500))}`,
    );
  }

  /** Called when bytes have arrived. Subclasses parse `bytes`; a plain socket does not. */
  protected read(): void {
    return;
  }

  #requireConnection(): undefined {
    if (this.#isGone) throw new Error('the connection closed');
    return undefined;
  }
}

export interface RawConnectOptions {
  readonly token?: string;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * A WebSocket client that breaks the rules: it answers neither pings nor close frames, and sends frames of
 * any shape.
 */
export class RawWebSocket extends RawSocket {
  readonly messages: Received[] = [];
  readonly pongs: Buffer[] = [];
  pings = 0;
  /** The code of the server's close frame; 1005 if the frame has none. */
  closeCode: number | undefined;
  #isOpen = false;
  #taken = 0;

  /** Sends a handshake and waits until it is accepted. */
  static async open(
    server: TestServer,
    channel: string,
    options: RawConnectOptions = {},
  ): Promise<RawWebSocket> {
    const client = new RawWebSocket(server);
    client.write(handshake(channel, options));
    await client.watch.until(
      () => client.#isOpen || undefined,
      () => `handshake; it was answered ${client.text}`,
    );
    return client;
  }

  /** Returns the next message of this type and event; skips messages before it. */
  next(type: string, event?: string): Promise<Received> {
    return this.watch.until(
      () => {
        for (const message of this.messages.slice(this.#taken)) {
          this.#taken += 1;
          if (message.type === type && (event === undefined || message.event === event)) return message;
        }
        if (this.closeCode !== undefined || this.isGone) throw new Error('the connection closed');
        return undefined;
      },
      () => `${type}/${event ?? '*'} among ${this.messages.map((m) => `${m.type}/${m.event}`).join(' ')}`,
    );
  }

  /** Waits for the server's close frame and returns its code. */
  closing(timeoutMs?: number): Promise<number> {
    return this.watch.until(
      () => {
        if (this.closeCode === undefined && this.isGone) throw new Error('the connection closed');
        return this.closeCode;
      },
      () => 'close frame',
      timeoutMs,
    );
  }

  /** Waits for `count` pongs, so that everything the server had queued before them has arrived. */
  ponged(count: number): Promise<true> {
    return this.watch.until(
      () => this.pongs.length >= count || undefined,
      () => `${count} pongs, only ${this.pongs.length}`,
    );
  }

  protected override read(): void {
    if (!this.#isOpen && !this.#readHead()) return;
    for (;;) {
      const frame = frameAt(this.bytes);
      if (frame === undefined) return;
      this.bytes = this.bytes.subarray(frame.end);
      this.#receive(frame.opcode, frame.payload);
    }
  }

  #readHead(): boolean {
    const end = this.bytes.indexOf('\r\n\r\n');
    if (end < 0 || !this.text.startsWith('HTTP/1.1 101 ')) return false;
    this.bytes = this.bytes.subarray(end + 4);
    this.#isOpen = true;
    return true;
  }

  #receive(opcode: number, payload: Buffer): void {
    if (opcode === OPCODE.ping) this.pings += 1;
    else if (opcode === OPCODE.pong) this.pongs.push(payload);
    else if (opcode === OPCODE.close) this.closeCode = payload.length < 2 ? 1005 : payload.readUInt16BE();
    else if (opcode === OPCODE.text) {
      const message = JSON.parse(payload.toString()) as Received;
      const problem = problemOnTheWire(message);
      if (problem !== undefined) throw new Error(problem);
      this.messages.push(message);
    } else throw new Error(`the server sent a frame with opcode ${opcode}`);
  }
}

/** Returns the text of a valid WebSocket handshake. */
export function handshake(
  channel: string,
  { token, query = '', headers = {} }: RawConnectOptions = {},
): string {
  const search = [token === undefined ? '' : `token=${token}`, query].filter((part) => part !== '').join('&');
  const lines = {
    Host: '127.0.0.1',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    ...headers,
  };
  const text = Object.entries(lines).map(([name, value]) => `${name}: ${value}`);
  return `GET /realtime/channels/${channel}/ws?${search} HTTP/1.1\r\n${text.join('\r\n')}\r\n\r\n`;
}

/**
 * Returns the complete frame at the start of `bytes`; servers send final, unmasked frames. Undefined:
 * incomplete.
 */
function frameAt(bytes: Buffer): { opcode: number; payload: Buffer; end: number } | undefined {
  const [first = 0, second = 0] = bytes;
  const start = second < 126 ? 2 : second === 126 ? 4 : 10;
  if (bytes.length < start) return undefined;
  if ((first & 0xf0) !== 0x80 || second > 127) throw new Error(`not a server's frame: ${first} ${second}`);
  const length =
    start === 2 ? second : start === 4 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const end = start + length;
  return bytes.length < end ? undefined : { opcode: first & 0x0f, payload: bytes.subarray(start, end), end };
}
