import { describe, expect, test } from 'vitest';
import { Counters } from './counters.js';
import { Metrics } from './metrics.js';
import { METRICS, type MetricName, metricsReference } from './metrics-table.js';

function setUp(streams = true) {
  const counters = new Counters();
  const now = { connections: 3, channels: 2, presenceUsers: 1, databaseUp: true, postgres: '' };
  const rowChanges = {
    isStreaming: true,
    lagBytes: 11,
    lagSeconds: 0.5,
    retainedBytes: 12,
    xminAge: 20,
    logBytes: 13,
    membersBehind: 14,
    membersResuming: 17,
    windowMemoryBytes: 18,
    windowFileBytes: 19,
    snapshotFiles: 4,
    snapshotFileBytes: 5,
    snapshotsWaiting: 6,
    subscriptions: 15,
    tables: 16,
    tiers: [['INDEXED', 17]] as const,
  };
  const metrics = new Metrics(counters, {
    connections: () => now.connections,
    channels: () => now.channels,
    presenceUsers: () => now.presenceUsers,
    databaseUp: () => now.databaseUp,
    databasePools: () => [
      ['own', { inUse: 3, abandoned: 0 }],
      ['conditions', { inUse: 2, abandoned: 1 }],
    ],
    build: () => ({ version: '1.2.3', node: '22.0.0', postgres: now.postgres }),
    rowChanges: streams ? () => rowChanges : undefined,
  });
  return { counters, now, metrics };
}

const NAMES = Object.keys(METRICS) as MetricName[];

describe('a scrape', () => {
  test('has the versions of now as one sample', async () => {
    const { now, metrics } = setUp();
    const samples = async () => (await metrics.text()).match(/^realtime_build_info\{.*/gm);
    expect(await samples()).toEqual(['realtime_build_info{version="1.2.3",node="22.0.0",postgres=""} 1']);
    now.postgres = '16.4';
    expect(await samples()).toEqual(['realtime_build_info{version="1.2.3",node="22.0.0",postgres="16.4"} 1']);
  });

  test.each(NAMES)('has %s with the kind and help of its row', async (name) => {
    const text = await setUp().metrics.text();
    expect(text).toContain(`# HELP ${name} ${METRICS[name].help}\n# TYPE ${name} ${METRICS[name].kind}\n`);
  });

  test('has no realtime_ metric that is not in the table', async () => {
    const text = await setUp().metrics.text();
    const found = [...text.matchAll(/^# TYPE (realtime_\w+) /gm)].map(([, name]) => name);
    expect(found.sort()).toEqual([...NAMES].sort());
  });

  test.each([
    ['messagesReceived', 'realtime_messages_received_total'],
    ['bytesReceived', 'realtime_received_bytes_total'],
    ['deliveries', 'realtime_messages_delivered_total'],
    ['bytesSent', 'realtime_sent_bytes_total'],
    ['writes', 'realtime_socket_writes_total'],
    ['slowConsumers', 'realtime_slow_consumers_total'],
    ['changesRead', 'realtime_changes_read_total'],
    ['rowsEvaluated', 'realtime_row_evaluations_total'],
    ['changesDelivered', 'realtime_changes_delivered_total'],
    ['changesFiltered', 'realtime_changes_filtered_total'],
    ['changesTooLarge', 'realtime_changes_too_large_total'],
    ['changeErrors', 'realtime_change_errors_total'],
  ] as const)('reports the counter %s as %s, with its present value at each scrape', async (field, name) => {
    const { counters, metrics } = setUp();
    counters[field] = 7;
    expect(await metrics.text()).toContain(`\n${name} 7\n`);
    expect(await metrics.text()).toContain(`\n${name} 7\n`);
    counters[field] += 2;
    expect(await metrics.text()).toContain(`\n${name} 9\n`);
  });

  test('counts the connections in use and abandoned by pool', async () => {
    const text = await setUp().metrics.text();
    expect(text.match(/^realtime_database_connections_.*/gm)).toEqual([
      'realtime_database_connections_in_use{pool="own"} 3',
      'realtime_database_connections_in_use{pool="conditions"} 2',
      'realtime_database_connections_abandoned{pool="own"} 0',
      'realtime_database_connections_abandoned{pool="conditions"} 1',
    ]);
  });

  test('counts tables by visibility tier', async () => {
    expect(await setUp().metrics.text()).toContain('\nrealtime_visibility_tier_tables{tier="INDEXED"} 17\n');
  });

  test('reads the state at the time of the scrape', async () => {
    const { now, metrics } = setUp();
    expect(await metrics.text()).toMatch(/^realtime_connections 3$[\s\S]*^realtime_database_up 1$/m);
    now.connections = 0;
    now.databaseUp = false;
    expect(await metrics.text()).toMatch(/^realtime_connections 0$[\s\S]*^realtime_database_up 0$/m);
  });

  test('has the numbers of the change stream, and zeros when row changes are off', async () => {
    const names = ['up', 'lag_bytes', 'lag_seconds', 'pending_bytes', 'members_behind'].map(
      (name) => `realtime_change_stream_${name}`,
    );
    names.push('realtime_wal_retained_bytes');
    names.push('realtime_subscriptions', 'realtime_tables');
    const values = async (streams: boolean) => {
      const text = await setUp(streams).metrics.text();
      return names.map((name) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]));
    };
    expect(await values(true)).toEqual([1, 11, 0.5, 13, 14, 12, 15, 16]);
    expect(await values(false)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });

  test('labels published messages by source and errors by code', async () => {
    const { counters, metrics } = setUp();
    counters.published.http = 2;
    counters.refused('AUTH_FAILED');
    const text = await metrics.text();
    expect(text).toContain('realtime_messages_published_total{source="websocket"} 0\n');
    expect(text).toContain('realtime_messages_published_total{source="http"} 2\n');
    expect(text).toContain('realtime_errors_total{code="AUTH_FAILED"} 1\n');
  });

  test('sorts durations into buckets of seconds', async () => {
    const { counters, metrics } = setUp();
    for (const ms of [0.05, 2, 700]) counters.fanOutMs(ms);
    const text = await metrics.text();
    const buckets = [
      ['0.0001', 1],
      ['0.001', 1],
      ['0.005', 2],
      ['0.5', 2],
      ['+Inf', 3],
    ] as const;
    for (const [le, count] of buckets) {
      expect(text).toContain(`realtime_fan_out_duration_seconds_bucket{le="${le}"} ${count}\n`);
    }
  });

  test('counts requests by method, route and status', async () => {
    const { metrics } = setUp();
    for (const status of [200, 200, 404]) metrics.answered('GET', '/realtime/channels/:name', status);
    const text = await metrics.text();
    const sample = 'realtime_http_requests_total{method="GET",route="/realtime/channels/:name",status=';
    expect(text).toContain(`${sample}"200"} 2\n`);
    expect(text).toContain(`${sample}"404"} 1\n`);
  });

  test('of one server is independent of other servers in the same process', async () => {
    const [one, other] = [setUp(), setUp()];
    one.counters.deliveries = 5;
    expect(await other.metrics.text()).toContain('\nrealtime_messages_delivered_total 0\n');
  });
});

test('every name follows the conventions of Prometheus: counters end in _total, units come last', () => {
  for (const name of NAMES) {
    expect(name).toMatch(/^realtime_[a-z_]+$/);
    expect(name.endsWith('_total'), name).toBe(METRICS[name].kind === 'counter');
    if (name.includes('duration')) expect(name).toMatch(/_seconds$/);
    if (name.includes('bytes')) expect(name).toMatch(/_bytes(_total)?$/);
  }
});

test('the reference page has a row for each metric', () => {
  const page = metricsReference();
  for (const name of NAMES) expect(page).toContain(`| \`${name}\` | ${METRICS[name].kind} | `);
  expect(page).toContain('| `code` |');
});
