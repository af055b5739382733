import { createServer, type Server } from 'node:http';
import type { Metrics } from '../metrics/metrics.js';
import { listenError } from './listen.js';

/** Serves `/metrics`, and nothing else, on its own port without a token. */
export class MetricsListener {
  readonly #server: Server;

  constructor(metrics: Metrics) {
    this.#server = createServer((request, response) => {
      if (request.url !== '/metrics' || (request.method !== 'GET' && request.method !== 'HEAD')) {
        response.writeHead(404).end();
        return;
      }
      metrics.text().then(
        (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
        () => response.writeHead(500).end(),
      );
    });
  }

  /** The port in use, also when the setting is 0. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error) => reject(listenError(error, host, port, 'REALTIME_METRICS_PORT')));
      this.#server.listen(port, host, resolve);
    });
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
