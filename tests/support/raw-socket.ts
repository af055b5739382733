import { connect, type Socket } from 'node:net';
import { OPCODE } from './client-frame.js';
import type { Received } from './test-client.js';
import type { TestServer } from './test-server.js';
import { Watch } from './watch.js';
import { problemOnTheWire } from './wire.js';

/** A TCP client that sends what it likes and keeps all that comes. */
export class RawSocket {
  readonly socket: Socket;
  /** Resolves when the connection is gone, however it ended. */
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

  /** Everything that came and was not read as frames. */
  get text(): string {
    return this.bytes.toString('latin1');
  }

  /** One write of all of it. */
  write(...parts: (Buffer | string)[]): void {
    this.socket.write(Buffer.concat(parts.map((part) => Buffer.from(part))));
  }

  /** Resolves with the match of `pattern` in what has come. */
  async sees(pattern: RegExp): Promise<RegExpExecArray> {
    return this.watch.until(
      () => pattern.exec(this.text) ?? this.#unlessGone(),
      () => `${pattern} in ${JSON.stringify(this.text.slice(0, 500))}`,
    );
  }

  /** Takes `bytes` apart; a plain socket leaves them. */
  protected read(): void {
    return;
  }

  #unlessGone(): undefined {
    if (this.#isGone) throw new Error('the connection is gone');
    return undefined;
  }
}

export interface RawConnectOptions {
  readonly token?: string;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent in the same write as the handshake. */
  readonly first?: readonly Buffer[];
}

/** A WebSocket client without manners: it answers no ping and no close frame, and sends frames of any shape. */
export class RawWebSocket extends RawSocket {
  readonly messages: Received[] = [];
  readonly pongs: Buffer[] = [];
  pings = 0;
  /** Code of the close frame, 1005 for one without. */
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
    client.write(handshake(channel, options), ...(options.first ?? []));
    await client.watch.until(
      () => client.#isOpen || undefined,
      () => `handshake; it was answered ${client.text}`,
    );
    return client;
  }

  /** The next message of this type and event; those before it are skipped. */
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

  /** The code of the close frame, when it has come. */
  closing(patienceMs?: number): Promise<number> {
    return this.watch.until(
      () => {
        if (this.closeCode === undefined && this.isGone) throw new Error('the connection is gone');
        return this.closeCode;
      },
      () => 'close frame',
      patienceMs,
    );
  }

  /** Waits for a pong; everything that the server was going to send before has come. */
  ponged(count: number): Promise<true> {
    return this.watch.until(
      () => this.pongs.length >= count || undefined,
      () => `${count} pongs but ${this.pongs.length}`,
    );
  }

  protected override read(): void {
    if (!this.#isOpen && !this.#readHead()) return;
    for (;;) {
      const frame = frameAt(this.bytes);
      if (frame === undefined) return;
      this.bytes = this.bytes.subarray(frame.end);
      this.#take(frame.opcode, frame.payload);
    }
  }

  #readHead(): boolean {
    const end = this.bytes.indexOf('\r\n\r\n');
    if (end < 0 || !this.text.startsWith('HTTP/1.1 101 ')) return false;
    this.bytes = this.bytes.subarray(end + 4);
    this.#isOpen = true;
    return true;
  }

  #take(opcode: number, payload: Buffer): void {
    if (opcode === OPCODE.ping) this.pings += 1;
    else if (opcode === OPCODE.pong) this.pongs.push(payload);
    else if (opcode === OPCODE.close) this.closeCode = payload.length < 2 ? 1005 : payload.readUInt16BE();
    else if (opcode === OPCODE.text) {
      const message = JSON.parse(payload.toString()) as Received;
      const problem = problemOnTheWire(message);
      if (problem !== undefined) throw new Error(problem);
      this.messages.push(message);
    } else throw new Error(`a frame with opcode ${opcode} came from the server`);
  }
}

/** The text of a proper handshake. */
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

/** The whole frame at the beginning of `bytes`, as servers send them: final and unmasked. */
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
