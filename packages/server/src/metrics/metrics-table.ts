interface Metric {
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels?: readonly string[];
}

/**
 * The metrics of this server by name. The registry and the reference page come from these rows; `/metrics`
 * also has the process and event loop metrics of prom-client (`process_*`, `nodejs_*`).
 */
export const METRICS = {
  realtime_build_info: {
    kind: 'gauge',
    help: 'Always 1. Labels: the versions of this server, of Node.js and of PostgreSQL (empty until it was reached).',
    labels: ['version', 'node', 'postgres'],
  },
  realtime_connections: { kind: 'gauge', help: 'Open WebSocket connections.' },
  realtime_channels: { kind: 'gauge', help: 'Channels, both permanent and automatic.' },
  realtime_presence_users: { kind: 'gauge', help: 'Users listed in presence, summed over channels.' },
  realtime_messages_received_total: {
    kind: 'counter',
    help: 'Messages received over WebSocket connections.',
  },
  realtime_received_bytes_total: {
    kind: 'counter',
    help: 'Bytes of messages received over WebSocket connections.',
  },
  realtime_messages_published_total: {
    kind: 'counter',
    help: 'Messages published to channels, by source (websocket, http).',
    labels: ['source'],
  },
  realtime_messages_delivered_total: {
    kind: 'counter',
    help: 'Channel and presence messages delivered, counted once per message and member.',
  },
  realtime_sent_bytes_total: {
    kind: 'counter',
    help: 'Bytes written to WebSocket connections, including frame headers.',
  },
  realtime_socket_writes_total: {
    kind: 'counter',
    help: 'Writes to sockets. One write can hold many messages.',
  },
  realtime_errors_total: {
    kind: 'counter',
    help: 'Errors sent to clients over connections, in handshakes and over HTTP, by code.',
    labels: ['code'],
  },
  realtime_slow_consumers_total: {
    kind: 'counter',
    help: 'Connections closed because they read too slowly.',
  },
  realtime_fan_out_duration_seconds: {
    kind: 'histogram',
    help: 'Time to pass the messages of one channel and event loop tick to all its members.',
  },
  realtime_http_requests_total: {
    kind: 'counter',
    help: 'HTTP requests answered, by method, route and status.',
    labels: ['method', 'route', 'status'],
  },
  realtime_sockets_destroyed_total: {
    kind: 'counter',
    help: 'Sockets that the server destroyed, by reason: too many of their address (address) or in all (server), over 16 pipelined requests (pipelined), answers that were not read for ten seconds (unread), or a handshake sent together with other requests or bytes (upgrade).',
    labels: ['reason'],
  },
  realtime_changes_read_total: {
    kind: 'counter',
    help: 'Row changes read from PostgreSQL, including those of tables without subscriptions.',
  },
  realtime_visibility_tier_tables: {
    kind: 'gauge',
    help: 'Enabled tables, by how their policies are evaluated for realtime_subscriber (OPEN, CLOSED, INDEXED, COMPILED, POSTGRES). Updated when a table is enabled, and every ten seconds.',
    labels: ['tier'],
  },
  realtime_row_evaluations_total: {
    kind: 'counter',
    help: 'Row versions for which row level security policies were evaluated, counted once per version and database role.',
  },
  realtime_changes_delivered_total: {
    kind: 'counter',
    help: 'Row changes delivered, counted once per change and member.',
  },
  realtime_changes_filtered_total: {
    kind: 'counter',
    help: 'Row changes that matched a subscription, but that privileges or policies hid from all members of a database role.',
  },
  realtime_changes_too_large_total: {
    kind: 'counter',
    help: 'Row changes that were not sent because their message would be larger than REALTIME_MAX_CHANGE_SIZE, counted once per different message. Those who would have got it got a gap.',
  },
  realtime_change_errors_total: {
    kind: 'counter',
    help: 'Policies and conditions that raised an error or took too long, and failed attempts to route row changes.',
  },
  realtime_claims_replaced_total: {
    kind: 'counter',
    help: 'Claims with a text that the database cannot store, which policies see as null; counted once per token and claim.',
  },
  realtime_sql_messages_total: {
    kind: 'counter',
    help: 'Messages sent by SQL (realtime.send), counted each time they are read from PostgreSQL.',
  },
  realtime_sql_messages_refused_total: {
    kind: 'counter',
    help: 'SQL messages dropped because they were forged, invalid, nested too deeply or too large, or because broadcast is off.',
  },
  realtime_change_stream_up: {
    kind: 'gauge',
    help: '1 while row changes are read, 0 while PostgreSQL is unavailable or another server reads them.',
  },
  realtime_change_stream_lag_bytes: {
    kind: 'gauge',
    help: 'Bytes of WAL between the end of the WAL and the position that all members have reached.',
  },
  realtime_change_stream_lag_seconds: {
    kind: 'gauge',
    help: 'Time that the last heartbeat took from PostgreSQL to the server.',
  },
  realtime_wal_retained_bytes: {
    kind: 'gauge',
    help: 'Bytes of WAL that PostgreSQL retains for the replication slot.',
  },
  realtime_catalog_xmin_age_transactions: {
    kind: 'gauge',
    help: 'Age, in transactions, of the oldest catalog row that vacuum must keep for the replication slot (catalog_xmin).',
  },
  realtime_change_stream_pending_bytes: {
    kind: 'gauge',
    help: 'Bytes of row changes in memory that some members have not received yet.',
  },
  realtime_change_stream_members_behind: {
    kind: 'gauge',
    help: 'Connections with pending row changes.',
  },
  realtime_change_stream_members_resuming: {
    kind: 'gauge',
    help: 'Returning connections that are still receiving the row changes they missed.',
  },
  realtime_resume_window_memory_bytes: {
    kind: 'gauge',
    help: 'Bytes of row changes in memory for returning connections.',
  },
  realtime_resume_window_file_bytes: {
    kind: 'gauge',
    help: 'Bytes of row changes in files for returning connections.',
  },
  realtime_snapshot_files: {
    kind: 'gauge',
    help: 'Snapshots in temporary files: they are being read from PostgreSQL, or sent to connections.',
  },
  realtime_snapshot_file_bytes: {
    kind: 'gauge',
    help: 'Bytes of snapshots in temporary files.',
  },
  realtime_snapshots_waiting: {
    kind: 'gauge',
    help: 'Snapshots that wait for the turn of their user, or until connections have read others.',
  },
  realtime_subscriptions: {
    kind: 'gauge',
    help: 'Subscriptions of channels to tables, without those of single connections.',
  },
  realtime_tables: { kind: 'gauge', help: 'Tables enabled for row changes.' },
  realtime_database_connections_in_use: {
    kind: 'gauge',
    help: "Connections to PostgreSQL in use, by pool: the server's own statements (own, 4 connections), policies and conditions of live changes (evaluation, 2), replays, snapshots and explanations (replays, 3), checks of conditions (conditions, 2).",
    labels: ['pool'],
  },
  realtime_database_connections_abandoned: {
    kind: 'gauge',
    help: 'Connections in use whose statement was cancelled and has not ended within two seconds, by pool. With two of them a pool other than own refuses its callers with DATABASE_UNAVAILABLE.',
    labels: ['pool'],
  },
  realtime_database_up: { kind: 'gauge', help: '1 while PostgreSQL can be reached, 0 otherwise.' },
} as const satisfies Readonly<Record<string, Metric>>;

export type MetricName = keyof typeof METRICS;

/** Returns the reference page of all metrics, in Markdown. */
export function metricsReference(): string {
  const rows = Object.entries<Metric>(METRICS).map(([name, { kind, labels = [], help }]) => {
    const labelled = labels.length === 0 ? '' : labels.map((label) => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${kind} | ${labelled} | ${help} |`;
  });
  return `${INTRODUCTION}\n\n| Name | Kind | Labels | Meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

const INTRODUCTION = `# Metrics

\`GET /metrics\` answers in the text format of Prometheus. On the port of the server it needs a server admin's token; on
the port of \`REALTIME_METRICS_PORT\` it needs none. \`REALTIME_ENABLE_METRICS=false\` turns metrics off. Besides the
metrics below there are the usual ones of a Node.js process: \`process_cpu_seconds_total\`,
\`process_resident_memory_bytes\`, the event loop delay \`nodejs_eventloop_lag_seconds\` with its percentiles
(\`nodejs_eventloop_lag_p99_seconds\`), heap and garbage collection.`;
