import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** A way to a PostgreSQL that can be closed, cut and made silent, as networks do. */
export class PostgresProxy {
  readonly #target: URL;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #isSilent = false;

  constructor(target: string) {
    this.#target = new URL(target);
  }

  /** The target's connection string, by way of this. Valid after the first `open`. */
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
    this.#server = createServer((inside) => this.#join(inside));
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Ends every connection and refuses new ones. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (server !== undefined) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  /** Ends every connection that is there once so many more bytes have come from PostgreSQL over it. */
  cutAfter(bytes: number): void {
    for (const socket of this.#sockets) {
      let left = bytes;
      socket.on('data', (piece: Buffer) => {
        left -= piece.length;
        if (left <= 0) socket.destroy();
      });
    }
  }

  /** From now on nothing comes through, and nothing fails. */
  fallSilent(): void {
    this.#isSilent = true;
    for (const socket of this.#sockets) socket.unpipe().resume();
  }

  #join(inside: Socket): void {
    const outside = connect(Number(this.#target.port), this.#target.hostname);
    for (const [from, to] of [
      [inside, outside],
      [outside, inside],
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
