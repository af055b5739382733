import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** A TCP proxy to a PostgreSQL that can refuse, cut or stall connections, as networks do. */
export class PostgresProxy {
  readonly #target: URL;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #isSilent = false;

  constructor(target: string) {
    this.#target = new URL(target);
  }

  /** The connection string through this proxy. Valid after the first `open`. */
  get url(): string {
    const url = new URL(this.#target);
    url.port = String(this.#port);
    return url.href;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  async open(): Promise<void> {
    this.#isSilent = false;
    this.#server = createServer((fromServer) => this.#connect(fromServer));
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Closes all connections and refuses new ones. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (server !== undefined) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  /** Cuts each open connection after `bytes` more bytes in one direction. */
  cutAfter(bytes: number): void {
    for (const socket of this.#sockets) {
      let left = bytes;
      socket.on('data', (piece: Buffer) => {
        left -= piece.length;
        if (left <= 0) socket.destroy();
      });
    }
  }

  /** From now on forwards nothing and closes nothing. */
  fallSilent(): void {
    this.#isSilent = true;
    for (const socket of this.#sockets) socket.unpipe().resume();
  }

  #connect(fromServer: Socket): void {
    const toPostgres = connect(Number(this.#target.port), this.#target.hostname);
    for (const [from, to] of [
      [fromServer, toPostgres],
      [toPostgres, fromServer],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => undefined);
      from.once('close', () => {
        this.#sockets.delete(from);
        if (!this.#isSilent) to.destroy();
      });
      if (this.#isSilent) from.resume();
      else from.pipe(to);
    }
  }
}
