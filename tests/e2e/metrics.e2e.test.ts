import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { sql } from '../support/postgres-database.js';
import { RawWebSocket } from '../support/raw-socket.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const { version: VERSION } = JSON.parse(
  readFileSync(new URL('../../packages/server/package.json', import.meta.url), 'utf8'),
) as { version: string };

let server: TestServer;
let admin: string;
beforeAll(async () => {
  server = await startTestServer();
  admin = await server.token('root', 'admin');
});
afterAll(() => server.stop());

/** Returns the samples of one scrape by name with labels. */
async function scrape(): Promise<Map<string, number>> {
  const { status, text } = await server.call('GET', '/metrics', { token: admin });
  expect(status).toBe(200);
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

/** Runs `act` and returns by how much each sample has changed. */
async function changes(act: () => Promise<void>): Promise<(sample: string) => number> {
  const before = await scrape();
  await act();
  const after = await scrape();
  return (sample) => (after.get(sample) ?? 0) - (before.get(sample) ?? 0);
}

const ROWS: readonly [name: string, kind: string][] = [
  ['realtime_build_info', 'gauge'],
  ['realtime_connections', 'gauge'],
  ['realtime_channels', 'gauge'],
  ['realtime_presence_users', 'gauge'],
  ['realtime_messages_received_total', 'counter'],
  ['realtime_received_bytes_total', 'counter'],
  ['realtime_messages_published_total', 'counter'],
  ['realtime_messages_delivered_total', 'counter'],
  ['realtime_sent_bytes_total', 'counter'],
  ['realtime_socket_writes_total', 'counter'],
  ['realtime_errors_total', 'counter'],
  ['realtime_slow_consumers_total', 'counter'],
  ['realtime_fan_out_duration_seconds', 'histogram'],
  ['realtime_http_requests_total', 'counter'],
  ['realtime_changes_read_total', 'counter'],
  ['realtime_row_evaluations_total', 'counter'],
  ['realtime_changes_delivered_total', 'counter'],
  ['realtime_changes_filtered_total', 'counter'],
  ['realtime_change_errors_total', 'counter'],
  ['realtime_change_stream_up', 'gauge'],
  ['realtime_change_stream_lag_bytes', 'gauge'],
  ['realtime_change_stream_lag_seconds', 'gauge'],
  ['realtime_wal_retained_bytes', 'gauge'],
  ['realtime_change_stream_pending_bytes', 'gauge'],
  ['realtime_change_stream_members_behind', 'gauge'],
  ['realtime_subscriptions', 'gauge'],
  ['realtime_tables', 'gauge'],
  ['realtime_database_up', 'gauge'],
  ['nodejs_eventloop_lag_p99_seconds', 'gauge'],
  ['process_resident_memory_bytes', 'gauge'],
];

test.each(ROWS)('%s is exposed as a %s with a help text', async (name, kind) => {
  const { text } = await server.call('GET', '/metrics', { token: admin });
  expect(text).toMatch(new RegExp(`^# HELP ${name} \\S.+$`, 'm'));
  expect(text).toMatch(new RegExp(`^# TYPE ${name} ${kind}$`, 'm'));
});

test('realtime_build_info names the versions of the server, Node.js and PostgreSQL', async () => {
  const [row] = await sql<{ server_version: string }>(server.databaseUrl, 'SHOW server_version');
  const [sample = ''] = [...(await scrape()).keys()].filter((name) => name.startsWith('realtime_build_info'));
  expect(sample).toBe(
    `realtime_build_info{version="${VERSION}",node="${process.versions.node}",postgres="${row?.server_version.split(' ')[0]}"}`,
  );
  expect((await scrape()).get(sample)).toBe(1);
});

test('a WebSocket message is counted as received, published and delivered, with bytes and fan-out time', async () => {
  const members = [
    await join(server, 'room', 'ada', { query: 'presence=none' }),
    await join(server, 'room', 'bob', { query: 'presence=none' }),
    await join(server, 'room', 'cleo', { query: 'presence=none&echo=false' }),
  ];
  const message = JSON.stringify({ type: 'broadcast', event: 'chat', payload: 'x'.repeat(100) });
  const change = await changes(async () => {
    for (let n = 0; n < 5; n++) {
      members[0]?.send(message);
      await Promise.all(members.map((member) => member.next('message', 'chat')));
    }
    members[2]?.send(message);
    await Promise.all(members.slice(0, 2).map((member) => member.next('message', 'chat')));
  });
  expect(change('realtime_messages_received_total')).toBe(6);
  expect(change('realtime_received_bytes_total')).toBe(6 * message.length);
  expect(change('realtime_messages_published_total{source="websocket"}')).toBe(6);
  expect(change('realtime_messages_published_total{source="http"}')).toBe(0);
  expect(change('realtime_messages_delivered_total')).toBe(17);
  expect(change('realtime_sent_bytes_total')).toBeGreaterThan(17 * message.length);
  expect(change('realtime_socket_writes_total')).toBe(17);
  expect(change('realtime_fan_out_duration_seconds_count')).toBe(6);
  expect(change('realtime_fan_out_duration_seconds_bucket{le="+Inf"}')).toBe(6);
  expect(change('realtime_fan_out_duration_seconds_sum')).toBeGreaterThan(0);
  await Promise.all(members.map((member) => member.close()));
});

test('an HTTP message counts as published by HTTP, and its request is labelled with its route, never with its path', async () => {
  const member = await join(server, 'room', 'ada');
  const change = await changes(async () => {
    await server.call('POST', '/realtime/channels/room/broadcast', { token: admin, body: { event: 'x' } });
    await server.call('GET', '/realtime/channels/none', { token: admin });
    await server.call('GET', '/no/such/path', { token: admin });
    await member.next('message', 'x');
  });
  expect(change('realtime_messages_published_total{source="http"}')).toBe(1);
  const request = (method: string, route: string, status: number) =>
    change(`realtime_http_requests_total{method="${method}",route="${route}",status="${status}"}`);
  expect(request('POST', '/realtime/channels/:name/broadcast', 200)).toBe(1);
  expect(request('GET', '/realtime/channels/:name', 404)).toBe(1);
  expect(request('GET', 'none', 404)).toBe(1);
  expect([...(await scrape()).keys()].join('\n')).not.toMatch(/such|channels\/none/);
  await member.close();
});

test('gauges show the current connections, channels and listed users', async () => {
  const change = await changes(async () => {
    await join(server, 'gauge-1', 'ada');
    await join(server, 'gauge-1', 'ada');
    await join(server, 'gauge-2', 'bob', { query: 'presence=none' });
  });
  expect(change('realtime_connections')).toBe(3);
  expect(change('realtime_channels')).toBe(2);
  expect(change('realtime_presence_users')).toBe(1);
});

test('each error of a WebSocket, a handshake or an HTTP request is counted once, by code', async () => {
  const member = await join(server, 'refusals', 'ada');
  const change = await changes(async () => {
    member.send('{broken');
    await member.next('system', 'error');
    member.send({ type: 'nonsense', event: 'x', ref: 1 });
    await member.next('reply', 'error');
    const refused = dial(server, 'refusals', { token: 'rubbish' });
    await refused.closed;
    await server.call('GET', '/realtime/stats', { token: 'rubbish' });
    await server.call('PUT', '/realtime/stats');
    await server.call('GET', '/%zz');
    await server.call('GET', '/healthz', { headers: { origin: 'https://evil.example' } });
  });
  const errors = (code: string) => change(`realtime_errors_total{code="${code}"}`);
  expect(errors('INVALID_JSON')).toBe(1);
  expect(errors('UNKNOWN_MESSAGE_TYPE')).toBe(1);
  expect(errors('AUTH_FAILED')).toBe(2);
  expect(errors('METHOD_NOT_ALLOWED')).toBe(1);
  expect(errors('VALIDATION_FAILED')).toBe(1);
  expect(errors('ORIGIN_NOT_ALLOWED')).toBe(1);
  await member.close();
});

test('a slow consumer is counted as a slow consumer and as an error', async () => {
  const stuck = await startTestServer({ REALTIME_MAX_OUTBOX: '64KB', REALTIME_MESSAGE_RATE: '100000/s' });
  const token = await stuck.token('root', 'admin');
  const reader = await RawWebSocket.open(stuck, 'flood', { token: await stuck.token('slow') });
  reader.socket.pause();
  const body = { event: 'x', payload: 'x'.repeat(60_000) };
  await eventually(async () => {
    await Promise.all(
      Array.from({ length: 20 }, () =>
        stuck.call('POST', '/realtime/channels/flood/broadcast', { token, body }),
      ),
    );
    const { text } = await stuck.call('GET', '/metrics', { token });
    expect(text).toContain('realtime_slow_consumers_total 1');
    expect(text).toContain('realtime_errors_total{code="SLOW_CONSUMER"} 1');
  }, 20_000);
  reader.socket.destroy();
  await stuck.stop();
});

test('realtime_database_up is 1 while the database is up', async () => {
  expect((await scrape()).get('realtime_database_up')).toBe(1);
});
