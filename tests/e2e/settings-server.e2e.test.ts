import { connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { RawSocket, RawWebSocket } from '../support/raw-socket.js';
import { dial, join } from '../support/test-client.js';
import { call, startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer | undefined;
afterEach(async () => {
  await server?.stop();
  server = undefined;
});

async function start(env: Readonly<Record<string, string>>): Promise<TestServer> {
  server = await startTestServer(env);
  return server;
}

function canConnect(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port }, () => {
      socket.destroy();
      resolve(true);
    }).on('error', () => resolve(false));
  });
}

// Only Linux accepts all addresses of 127.0.0.0/8 without configuration.
test.skipIf(process.platform !== 'linux')(
  'REALTIME_HOST: the server listens on that address only',
  async () => {
    const { port } = await start({ REALTIME_HOST: '127.0.0.2' });
    expect(await canConnect('127.0.0.2', port)).toBe(true);
    expect(await canConnect('127.0.0.1', port)).toBe(false);
  },
);

test('REALTIME_PORT: the server listens on that port, and a second server reports that it is taken', async () => {
  const { port: free } = await start({});
  await server?.stop();
  const at = await start({ REALTIME_PORT: String(free) });
  expect(at.port).toBe(free);
  expect(await canConnect('127.0.0.1', free)).toBe(true);
  await expect(startTestServer({ REALTIME_PORT: String(free) })).rejects.toThrow(
    `Port ${free} on 127.0.0.1 is taken by another program`,
  );
});

test('REALTIME_TRUSTED_PROXIES: limits per address apply to the client that the proxy names', async () => {
  const at = await start({
    REALTIME_TRUSTED_PROXIES: 'loopback',
    REALTIME_MAX_CONNECTIONS_PER_IP: '1',
  });
  const from = (address: string) => ({ headers: { 'x-forwarded-for': address } });
  const first = await join(at, 'room', 'ada', from('198.51.100.1'));
  const second = await join(at, 'room', 'ada', from('198.51.100.2'));
  const refused = dial(at, 'room', { token: await at.token('ada'), ...from('9.9.9.9, 198.51.100.1') });
  expect((await refused.next('system', 'error')).payload.code).toBe('CONNECTION_LIMIT_REACHED');
  await Promise.all([first.close(), second.close(), refused.closed]);
});

test('without REALTIME_TRUSTED_PROXIES, X-Forwarded-For is ignored', async () => {
  const at = await start({ REALTIME_MAX_CONNECTIONS_PER_IP: '1' });
  const first = await join(at, 'room', 'ada', { headers: { 'x-forwarded-for': '198.51.100.1' } });
  const token = await at.token('ada');
  const refused = dial(at, 'room', { token, headers: { 'x-forwarded-for': '198.51.100.2' } });
  expect((await refused.next('system', 'error')).payload.code).toBe('CONNECTION_LIMIT_REACHED');
  await Promise.all([first.close(), refused.closed]);
});

test('REALTIME_PING_INTERVAL: `connected` contains it, and clients are pinged at that interval', async () => {
  const at = await start({ REALTIME_PING_INTERVAL: '200ms' });
  const client = await join(at, 'room', 'ada');
  expect(client.received[0]?.payload.ping_interval_ms).toBe(200);
  const times: number[] = [];
  await new Promise<void>((resolve) => {
    client.socket.on('ping', () => {
      times.push(performance.now());
      if (times.length === 3) resolve();
    });
  });
  const [first = 0, , third = 0] = times;
  expect(third - first).toBeGreaterThan(200);
  expect(third - first).toBeLessThan(2_500);
  await client.close();
});

test('REALTIME_CONNECTION_TIMEOUT: a connection that answers no ping is closed as stale, one that answers stays open', async () => {
  const at = await start({ REALTIME_PING_INTERVAL: '100ms', REALTIME_CONNECTION_TIMEOUT: '1s' });
  const alive = await join(at, 'room', 'alive');
  const silent = await RawWebSocket.open(at, 'room', { token: await at.token('silent') });
  const started = performance.now();
  expect((await silent.next('system', 'error')).payload.code).toBe('STALE_CONNECTION');
  expect(await silent.closing()).toBe(4408);
  expect(performance.now() - started).toBeGreaterThan(500);
  await silent.gone;
  await alive.settle();
  await alive.close();
});

describe('REALTIME_SHUTDOWN_TIMEOUT', () => {
  /** Sends a request without its body: a server that stops has to wait for it or cut it off. */
  async function startRequest(at: TestServer): Promise<RawSocket> {
    const raw = new RawSocket(at);
    raw.write('POST /realtime/channels HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n');
    raw.write(`Authorization: Bearer ${await at.token('root', 'admin')}\r\nContent-Length: 2\r\n`);
    raw.write('Expect: 100-continue\r\n\r\n');
    await raw.sees(/^HTTP\/1\.1 100 /);
    return raw;
  }

  test('a request that does not end is cut off after the timeout', async () => {
    const at = await start({ REALTIME_SHUTDOWN_TIMEOUT: '500ms' });
    const raw = await startRequest(at);
    const started = performance.now();
    await at.stop();
    expect(performance.now() - started).toBeLessThan(3_000);
    await raw.gone;
    server = undefined;
  });

  test('a request that ends in time gets its answer', async () => {
    const at = await start({ REALTIME_SHUTDOWN_TIMEOUT: '20s' });
    const client = await join(at, 'room', 'ada');
    const raw = await startRequest(at);
    const stopped = at.stop();
    expect((await client.closed).code).toBe(1012);
    raw.write('{}');
    await raw.sees(/HTTP\/1\.1 400 [\s\S]*VALIDATION_FAILED/);
    const answered = performance.now();
    await stopped;
    expect(performance.now() - answered).toBeLessThan(8_000);
    server = undefined;
  });
});

describe('REALTIME_ENABLE_CONSOLE', () => {
  const SERVED = [
    '/',
    '/test_websocket.html',
    '/docs',
    '/docs/',
    '/docs/json',
    '/docs/static/index.html',
    '/openapi.json',
    '/demo-session',
    '/page/page.js',
    '/page/favicon.svg',
  ];

  test('when off, the page, the API documentation and their files are unknown paths', async () => {
    const at = await start({ REALTIME_ENABLE_CONSOLE: 'false' });
    const unknown = await at.call('GET', '/no/such/path');
    for (const path of SERVED)
      for (const method of ['GET', 'POST']) {
        const { status, body } = await at.call(method, path);
        expect([path, method, status, body]).toEqual([path, method, 404, unknown.body]);
      }
    expect(unknown.body.code).toBe('NOT_FOUND');
    expect((await at.call('GET', '/healthz')).status).toBe(200);
    await (await join(at, 'room', 'ada')).close();
  });

  test('when on, the page, the API documentation and their files are served', async () => {
    const at = await start({});
    for (const path of SERVED)
      expect([path, (await at.call('GET', path)).status < 300]).toEqual([path, true]);
  });
});

describe('REALTIME_METRICS_PORT and REALTIME_ENABLE_METRICS', () => {
  test('the metrics port answers /metrics without a token, and nothing else', async () => {
    const at = await start({ REALTIME_METRICS_PORT: '0' });
    const url = `http://127.0.0.1:${at.metricsPort}`;
    const scraped = await call(url, 'GET', '/metrics');
    expect(scraped.status).toBe(200);
    expect(scraped.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(scraped.text).toContain('realtime_connections 0');
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/healthz'],
      ['GET', '/realtime/stats'],
      ['GET', '/metrics/x'],
      ['POST', '/metrics'],
    ] as const) {
      expect([method, path, (await call(url, method, path)).status]).toEqual([method, path, 404]);
    }
    const token = await at.token('root', 'admin');
    expect((await at.call('GET', '/metrics', { token })).status).toBe(200);
  });

  test('without REALTIME_METRICS_PORT there is no metrics port', async () => {
    expect((await start({})).metricsPort).toBeUndefined();
  });

  test('with REALTIME_ENABLE_METRICS=false nothing is collected, /metrics says so, and the rest works', async () => {
    const at = await start({ REALTIME_ENABLE_METRICS: 'false', REALTIME_METRICS_PORT: '0' });
    const token = await at.token('root', 'admin');
    const answer = await at.call('GET', '/metrics', { token });
    expect(answer.status).toBe(403);
    expect(answer.body).toEqual({ error: 'feature disabled', code: 'FEATURE_DISABLED', feature: 'metrics' });
    expect(at.metricsPort).toBeUndefined();
    await (await join(at, 'room', 'ada')).close();
    expect((await at.call('GET', '/realtime/stats', { token })).status).toBe(200);
  });
});
