import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { METRICS, type MetricName } from './metrics-table.js';
import type { Tally } from './tally.js';

/** What is asked for at each scrape. */
export interface MetricSources {
  readonly connections: () => number;
  readonly channels: () => number;
  readonly presenceUsers: () => number;
  readonly databaseUp: () => boolean;
}

const FAN_OUT_BUCKETS = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5];

/** The registry behind `/metrics`: fills the table's rows from the tally and the sources when it is scraped. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requests: Counter;

  constructor(tally: Tally, sources: MetricSources) {
    collectDefaultMetrics({ register: this.#registry });
    this.#gauge('realtime_connections', sources.connections);
    this.#gauge('realtime_channels', sources.channels);
    this.#gauge('realtime_presence_users', sources.presenceUsers);
    this.#gauge('realtime_database_up', () => Number(sources.databaseUp()));
    this.#counter('realtime_messages_received_total', () => tally.messagesReceived);
    this.#counter('realtime_bytes_received_total', () => tally.bytesReceived);
    this.#counter('realtime_deliveries_total', () => tally.deliveries);
    this.#counter('realtime_bytes_sent_total', () => tally.bytesSent);
    this.#counter('realtime_socket_writes_total', () => tally.writes);
    this.#counter('realtime_slow_consumers_total', () => tally.slowConsumers);
    this.#labelled('realtime_messages_published_total', 'source', () => Object.entries(tally.published));
    this.#labelled('realtime_refusals_total', 'code', () => tally.refusals);
    const fanOut = new Histogram({
      ...this.#row('realtime_fan_out_duration_seconds'),
      buckets: FAN_OUT_BUCKETS,
    });
    tally.onFanOut((seconds) => fanOut.observe(seconds));
    this.#requests = new Counter({
      ...this.#row('realtime_http_requests_total'),
      labelNames: METRICS.realtime_http_requests_total.labels,
    });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** An HTTP request was answered. `route` is the pattern, never the path: paths are as many as there are channels. */
  answered(method: string, route: string, status: number): void {
    this.#requests.inc({ method, route, status });
  }

  #row(name: MetricName): { name: string; help: string; registers: Registry[] } {
    return { name, help: METRICS[name].help, registers: [this.#registry] };
  }

  #gauge(name: MetricName, read: () => number): void {
    new Gauge({
      ...this.#row(name),
      collect() {
        this.set(read());
      },
    });
  }

  #counter(name: MetricName, read: () => number): void {
    new Counter({
      ...this.#row(name),
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  #labelled(name: MetricName, label: string, read: () => Iterable<readonly [string, number]>): void {
    new Counter({
      ...this.#row(name),
      labelNames: [label],
      collect() {
        this.reset();
        for (const [value, count] of read()) this.inc({ [label]: value }, count);
      },
    });
  }
}
