/** One row of the metrics table. */
interface Metric {
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels?: readonly string[];
}

/**
 * Every metric of our own, by its name at `/metrics`. The registry and the reference page come from these
 * rows; beside them stand the process and event loop metrics of prom-client (`process_*`, `nodejs_*`).
 */
export const METRICS = {
  realtime_build_info: {
    kind: 'gauge',
    help: 'Always 1; its labels are the versions of this server, of Node.js and of PostgreSQL (empty until it was reached).',
    labels: ['version', 'node', 'postgres'],
  },
  realtime_connections: { kind: 'gauge', help: 'WebSocket connections that are open.' },
  realtime_channels: { kind: 'gauge', help: 'Channels of both kinds.' },
  realtime_presence_users: { kind: 'gauge', help: 'Listed users, summed over channels.' },
  realtime_messages_received_total: {
    kind: 'counter',
    help: 'Messages that came in over WebSocket connections.',
  },
  realtime_bytes_received_total: {
    kind: 'counter',
    help: 'Bytes of the messages that came in over connections.',
  },
  realtime_messages_published_total: {
    kind: 'counter',
    help: 'Messages published to channels, by where they came from (websocket, http).',
    labels: ['source'],
  },
  realtime_deliveries_total: {
    kind: 'counter',
    help: 'Messages handed to connections: one for each message and member.',
  },
  realtime_bytes_sent_total: { kind: 'counter', help: 'Bytes written to connections, frames included.' },
  realtime_socket_writes_total: { kind: 'counter', help: 'Writes to sockets; many messages can share one.' },
  realtime_refusals_total: {
    kind: 'counter',
    help: 'Errors told to clients over connections, in handshakes and by HTTP, by code.',
    labels: ['code'],
  },
  realtime_slow_consumers_total: {
    kind: 'counter',
    help: 'Connections cut off because they read too slowly.',
  },
  realtime_fan_out_duration_seconds: {
    kind: 'histogram',
    help: 'How long it takes to hand the messages of one channel and turn to all its members.',
  },
  realtime_http_requests_total: {
    kind: 'counter',
    help: 'HTTP requests answered, by route and status.',
    labels: ['method', 'route', 'status'],
  },
  realtime_changes_read_total: {
    kind: 'counter',
    help: 'Row changes read from PostgreSQL, also of tables that nobody subscribes to.',
  },
  realtime_change_tables_by_tier: {
    kind: 'gauge',
    help: 'Tables that are set up, by how their rows are judged for realtime_subscriber (INDEXED, COMPILED, POSTGRES, OPEN, CLOSED); looked at when a table is set up, and every ten seconds.',
    labels: ['tier'],
  },
  realtime_row_evaluations_total: {
    kind: 'counter',
    help: 'Versions of rows that row level security policies were asked about: one for each version and database role.',
  },
  realtime_changes_delivered_total: {
    kind: 'counter',
    help: 'Row changes handed to connections: one for each change and member.',
  },
  realtime_changes_filtered_total: {
    kind: 'counter',
    help: 'Row changes that a subscription wanted and that rights or policies kept from everybody of a database role.',
  },
  realtime_change_errors_total: {
    kind: 'counter',
    help: 'Policies and conditions that raised an error or took too long, and changes that could not be judged.',
  },
  realtime_sql_messages_total: {
    kind: 'counter',
    help: 'Messages that were sent by SQL (realtime.send), each time that they were read.',
  },
  realtime_sql_messages_refused_total: {
    kind: 'counter',
    help: 'Messages in the log that pretended to be sent by SQL, or were too large, or came while broadcasting is off.',
  },
  realtime_changes_streaming: {
    kind: 'gauge',
    help: '1 while row changes are read, 0 while they are not: PostgreSQL is away, or another server reads them.',
  },
  realtime_changes_lag_bytes: {
    kind: 'gauge',
    help: "Bytes of WAL between PostgreSQL's end and what every member has.",
  },
  realtime_changes_lag_seconds: {
    kind: 'gauge',
    help: 'How long the last heartbeat was under way through the WAL.',
  },
  realtime_wal_retained_bytes: {
    kind: 'gauge',
    help: 'Bytes of WAL that PostgreSQL keeps for the replication slot.',
  },
  realtime_catalog_xmin_age: {
    kind: 'gauge',
    help: 'How many transactions old the oldest row of the catalog is that vacuum must keep for the replication slot.',
  },
  realtime_change_log_bytes: {
    kind: 'gauge',
    help: 'Bytes of row changes that wait for members that have not taken them yet.',
  },
  realtime_change_members_behind: {
    kind: 'gauge',
    help: 'Connections that have not taken all row changes that are for them.',
  },
  realtime_change_members_resuming: {
    kind: 'gauge',
    help: 'Connections that came back and are still getting what they missed.',
  },
  realtime_resume_window_memory_bytes: {
    kind: 'gauge',
    help: 'Bytes of row changes that are kept in memory for connections that come back.',
  },
  realtime_resume_window_file_bytes: {
    kind: 'gauge',
    help: 'Bytes of row changes that are kept in files for connections that come back.',
  },
  realtime_subscriptions: { kind: 'gauge', help: 'Subscriptions of channels to tables.' },
  realtime_tables: { kind: 'gauge', help: 'Tables whose row changes are streamed.' },
  realtime_database_up: { kind: 'gauge', help: '1 while PostgreSQL can be reached, else 0.' },
} as const satisfies Readonly<Record<string, Metric>>;

export type MetricName = keyof typeof METRICS;

/** The reference page of all metrics, in Markdown. */
export function metricsReference(): string {
  const rows = Object.entries<Metric>(METRICS).map(([name, { kind, labels = [], help }]) => {
    const labelled = labels.length === 0 ? '' : labels.map((label) => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${kind} | ${labelled} | ${help} |`;
  });
  return `${INTRODUCTION}\n\n| Name | Kind | Labels | Meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

const INTRODUCTION = `# Metrics

\`GET /metrics\` answers in the text format of Prometheus: to a server admin's token on the server's own port,
and to anybody on the port that \`REALTIME_METRICS_PORT\` names. With \`REALTIME_ENABLE_METRICS=false\` nothing is
collected. Beside the rows below stand the usual metrics of a Node.js process: \`process_cpu_seconds_total\`,
\`process_resident_memory_bytes\`, the event loop's delay as \`nodejs_eventloop_lag_seconds\` with its percentiles
(\`nodejs_eventloop_lag_p99_seconds\`), heap and garbage collection.`;
