import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Counters } from './counters.js';
import { METRICS, type MetricName } from './metrics-table.js';

/** Reads the current state at each scrape. */
export interface MetricSources {
  readonly connections: () => number;
  readonly channels: () => number;
  readonly presenceUsers: () => number;
  readonly databaseUp: () => boolean;
  readonly databasePools: () => Iterable<readonly [pool: string, use: PoolUse]>;
  readonly build: () => BuildInfo;
  /** Undefined when row changes are off: their gauges are then 0. */
  readonly rowChanges: (() => RowChangeNumbers) | undefined;
}

/** The connections of a pool. */
interface PoolUse {
  readonly inUse: number;
  readonly abandoned: number;
}

/** The versions that run; empty when unknown. */
export interface BuildInfo {
  readonly version: string;
  readonly node: string;
  readonly postgres: string;
}

/** The current state of row changes, in the units of their metrics. */
export interface RowChangeNumbers {
  readonly isStreaming: boolean;
  readonly lagBytes: number;
  readonly lagSeconds: number;
  readonly retainedBytes: number;
  readonly xminAge: number;
  readonly logBytes: number;
  readonly membersBehind: number;
  readonly membersResuming: number;
  readonly windowMemoryBytes: number;
  readonly windowFileBytes: number;
  readonly snapshotFiles: number;
  readonly snapshotFileBytes: number;
  readonly snapshotsWaiting: number;
  readonly subscriptions: number;
  readonly tables: number;
  /** Number of tables in each visibility tier. */
  readonly tiers: Iterable<readonly [string, number]>;
}

const FAN_OUT_BUCKETS = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5];

/** The Prometheus registry behind `/metrics`. Reads counters and sources when it is scraped. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requests: Counter;

  constructor(counters: Counters, sources: MetricSources) {
    collectDefaultMetrics({ register: this.#registry });
    this.#gauge('realtime_connections', sources.connections);
    this.#gauge('realtime_channels', sources.channels);
    this.#gauge('realtime_presence_users', sources.presenceUsers);
    this.#gauge('realtime_database_up', () => Number(sources.databaseUp()));
    const pools = (read: (use: PoolUse) => number) => () =>
      Array.from(sources.databasePools(), ([pool, use]) => [pool, read(use)] as const);
    this.#gauges(
      'realtime_database_connections_in_use',
      'pool',
      pools(({ inUse }) => inUse),
    );
    this.#gauges(
      'realtime_database_connections_abandoned',
      'pool',
      pools(({ abandoned }) => abandoned),
    );
    this.#buildInfo(sources.build);
    const rowChanges = sources.rowChanges;
    const ofRowChanges = (name: MetricName, read: (numbers: RowChangeNumbers) => number) =>
      this.#gauge(name, () => (rowChanges === undefined ? 0 : read(rowChanges())));
    ofRowChanges('realtime_change_stream_up', ({ isStreaming }) => Number(isStreaming));
    ofRowChanges('realtime_change_stream_lag_bytes', ({ lagBytes }) => lagBytes);
    ofRowChanges('realtime_change_stream_lag_seconds', ({ lagSeconds }) => lagSeconds);
    ofRowChanges('realtime_wal_retained_bytes', ({ retainedBytes }) => retainedBytes);
    ofRowChanges('realtime_catalog_xmin_age_transactions', ({ xminAge }) => xminAge);
    ofRowChanges('realtime_change_stream_pending_bytes', ({ logBytes }) => logBytes);
    ofRowChanges('realtime_change_stream_members_behind', ({ membersBehind }) => membersBehind);
    ofRowChanges('realtime_change_stream_members_resuming', ({ membersResuming }) => membersResuming);
    ofRowChanges('realtime_resume_window_memory_bytes', ({ windowMemoryBytes }) => windowMemoryBytes);
    ofRowChanges('realtime_resume_window_file_bytes', ({ windowFileBytes }) => windowFileBytes);
    ofRowChanges('realtime_snapshot_files', ({ snapshotFiles }) => snapshotFiles);
    ofRowChanges('realtime_snapshot_file_bytes', ({ snapshotFileBytes }) => snapshotFileBytes);
    ofRowChanges('realtime_snapshots_waiting', ({ snapshotsWaiting }) => snapshotsWaiting);
    ofRowChanges('realtime_subscriptions', ({ subscriptions }) => subscriptions);
    ofRowChanges('realtime_tables', ({ tables }) => tables);
    this.#gauges('realtime_visibility_tier_tables', 'tier', () => rowChanges?.().tiers ?? []);
    this.#counter('realtime_changes_read_total', () => counters.changesRead);
    this.#counter('realtime_row_evaluations_total', () => counters.rowsEvaluated);
    this.#counter('realtime_changes_delivered_total', () => counters.changesDelivered);
    this.#counter('realtime_changes_too_large_total', () => counters.changesTooLarge);
    this.#counter('realtime_changes_filtered_total', () => counters.changesFiltered);
    this.#counter('realtime_change_errors_total', () => counters.changeErrors);
    this.#counter('realtime_claims_replaced_total', () => counters.claimsReplaced);
    this.#counter('realtime_sql_messages_total', () => counters.sqlMessages);
    this.#counter('realtime_sql_messages_refused_total', () => counters.sqlMessagesRefused);
    this.#counter('realtime_messages_received_total', () => counters.messagesReceived);
    this.#counter('realtime_received_bytes_total', () => counters.bytesReceived);
    this.#counter('realtime_messages_delivered_total', () => counters.deliveries);
    this.#counter('realtime_sent_bytes_total', () => counters.bytesSent);
    this.#counter('realtime_socket_writes_total', () => counters.writes);
    this.#counter('realtime_slow_consumers_total', () => counters.slowConsumers);
    this.#labelled('realtime_messages_published_total', 'source', () => Object.entries(counters.published));
    this.#labelled('realtime_errors_total', 'code', () => counters.refusals);
    this.#labelled('realtime_sockets_destroyed_total', 'reason', () => counters.destroyedSockets);
    const fanOut = new Histogram({
      ...this.#row('realtime_fan_out_duration_seconds'),
      buckets: FAN_OUT_BUCKETS,
    });
    counters.onFanOut((seconds) => fanOut.observe(seconds));
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

  /** Counts an answered HTTP request. `route` is the pattern: there are as many paths as channels. */
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

  #buildInfo(read: () => BuildInfo): void {
    new Gauge({
      ...this.#row('realtime_build_info'),
      labelNames: METRICS.realtime_build_info.labels,
      collect() {
        this.reset();
        this.set({ ...read() }, 1);
      },
    });
  }

  #gauges(name: MetricName, label: string, read: () => Iterable<readonly [string, number]>): void {
    new Gauge({
      ...this.#row(name),
      labelNames: [label],
      collect() {
        for (const [value, number] of read()) this.set({ [label]: value }, number);
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
