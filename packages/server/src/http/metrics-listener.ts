import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { Metrics } from '../metrics/metrics.js';
import { answerBrokenRequests } from './broken-requests.js';
import { errorReply } from './error-reply.js';
import type { HttpSockets } from './http-sockets.js';
import { listenError } from './listen.js';
import type { RequestRate } from './request-rate.js';

interface MetricsListenerParts {
  readonly metrics: Metrics;
  readonly sockets: HttpSockets;
  readonly rate: RequestRate;
  readonly counters: { refused(code: string): void };
}

/** Serves `/metrics`, and nothing else, on its own port without a token. */
export class MetricsListener {
  readonly #server: Server;
  readonly #parts: MetricsListenerParts;

  constructor(parts: MetricsListenerParts) {
    this.#parts = parts;
    this.#server = parts.sockets.createServer((request, response) => this.#answer(request, response));
    this.#server.on('clientError', answerBrokenRequests(parts.sockets, parts.counters));
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

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { metrics, rate, counters } = this.#parts;
    try {
      rate.require(request);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      counters.refused(error.code);
      const { status, headers } = errorReply(error);
      response.writeHead(status, headers).end(JSON.stringify(error.body));
      return;
    }
    if (request.url !== '/metrics' || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(404).end();
      return;
    }
    metrics.text().then(
      (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  }
}
