import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** A self-signed certificate for localhost, for tests alone. */
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/SfYFNxJRBwvnzb7
IJL8wDfX1V9pjfaDO3BoHgmKZZChRANCAAQ9fW+ViY8nq9Ms0CMvREw/QoAm4x6T
5L/pfKi7YAS60+04fiie2O4YuRdaOunnIPNsxefiVLUhaB9+g4thOYOb
-----END PRIVATE KEY-----
`;
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUMiNrUakzFpYeHWIDzdyjeisUhXgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDIyNTQxMloYDzIxMjYxMTA2
MjI1NDEyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQ9fW+ViY8nq9Ms0CMvREw/QoAm4x6T5L/pfKi7YAS60+04fiie2O4Y
uRdaOunnIPNsxefiVLUhaB9+g4thOYObo28wbTAdBgNVHQ4EFgQUnhtMGaQ5e/+2
OWSQYVk4gfBkq/UwHwYDVR0jBBgwFoAUnhtMGaQ5e/+2OWSQYVk4gfBkq/UwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgXCaAWDGqxmIisW87tdrJfJHb2Yj1nlvMe4rJsXvFhqACIQCc
Rka08LYFKUlXtX0maMVvTOHCCUuL5I2FElloMUMtFA==
-----END CERTIFICATE-----
`;

/** Length of SSLRequest, the message with which a client asks for TLS. */
const SSL_REQUEST_BYTES = 8;

/** A TCP proxy that speaks TLS with clients, as PostgreSQL does, and forwards to a PostgreSQL without TLS. */
export class TlsPostgresProxy {
  readonly #target: URL;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  /** How many clients have asked for TLS. */
  encrypted = 0;

  constructor(target: string) {
    this.#target = new URL(target);
  }

  /** Starts listening and returns the connection string through this proxy. */
  async open(): Promise<string> {
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const url = new URL(this.#target);
    url.port = String((this.#server.address() as AddressInfo).port);
    url.search = '?sslmode=no-verify';
    return url.href;
  }

  close(): void {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(socket: Socket): void {
    this.#keep(socket);
    socket.once('data', (request: Buffer) => {
      if (request.length !== SSL_REQUEST_BYTES) return socket.destroy();
      this.encrypted += 1;
      socket.write('S');
      const client = new TLSSocket(socket, { isServer: true, key: KEY, cert: CERTIFICATE });
      const postgres = connect(Number(this.#target.port), this.#target.hostname);
      for (const [from, to] of [
        [client, postgres],
        [postgres, client],
      ] as const) {
        this.#keep(from);
        from.pipe(to);
        from.once('close', () => to.destroy());
      }
      return undefined;
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
