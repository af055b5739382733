import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonFrame } from '../support/client-frame.js';
import { exchange, head, statusesOf } from '../support/raw-http.js';
import { handshake, RawSocket } from '../support/raw-socket.js';
import { RecordingLog } from '../support/recording-log.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

const from = (address: string) => ({ headers: { 'x-forwarded-for': address } });

async function withServer(
  env: Readonly<Record<string, string>>,
  use: (at: TestServer, log: RecordingLog) => Promise<void>,
): Promise<void> {
  const log = new RecordingLog();
  const at = await startTestServer(env, { log });
  try {
    await use(at, log);
    expect(log.errors).toEqual([]);
  } finally {
    await at.stop();
  }
}

describe('requests of one address over REALTIME_HTTP_RATE', () => {
  const env = { REALTIME_HTTP_RATE: '0.1/s, burst 3', REALTIME_TRUSTED_PROXIES: 'loopback' };

  test('are refused with Retry-After, those of another address are not', async () => {
    await withServer(env, async (at) => {
      const origin = 'http://localhost:3000';
      const ask = (address: string) =>
        at.call('GET', '/openapi.json', { headers: { origin, 'x-forwarded-for': address } });
      for (let n = 0; n < 3; n++) expect((await ask('203.0.113.1')).status).toBe(200);
      const refused = await ask('203.0.113.1');
      expect(refused.status).toBe(429);
      expect(refused.body).toEqual({
        error: 'rate limit exceeded',
        code: 'RATE_LIMIT_EXCEEDED',
        retry_after: 10,
      });
      expect(refused.headers.get('retry-after')).toBe('10');
      expect(refused.headers.get('access-control-allow-origin')).toBe(origin);
      expect((await ask('203.0.113.2')).status).toBe(200);
    });
  });

  test('are refused on every path, known or not, before the token is checked', async () => {
    await withServer(env, async (at) => {
      for (let n = 0; n < 3; n++) await at.call('GET', '/nowhere', from('203.0.113.1'));
      for (const [method, path] of [
        ['GET', '/nowhere'],
        ['GET', '/docs/static/swagger-ui.css'],
        ['POST', '/realtime/channels'],
        ['PUT', '/healthz?'],
      ] as const) {
        const { status } = await at.call(method, path, from('203.0.113.1'));
        expect([path, status]).toEqual([path, path === '/healthz?' ? 405 : 429]);
      }
    });
  });

  test('leave the probes of the same address their own rate', async () => {
    await withServer(env, async (at) => {
      const token = await at.token('root', 'admin');
      const ask = async (path: string) => (await at.call('GET', path, { token })).status;
      for (let n = 0; n < 4; n++) await ask('/openapi.json');
      expect([await ask('/openapi.json'), await ask('/healthz')]).toEqual([429, 200]);
      expect([await ask('/readyz'), await ask('/metrics'), await ask('/healthz')]).toEqual([200, 200, 429]);
    });
  });

  test('are refused on REALTIME_METRICS_PORT as well', async () => {
    await withServer({ ...env, REALTIME_METRICS_PORT: '0' }, async (at) => {
      const ask = () => fetch(`http://127.0.0.1:${at.metricsPort}/metrics`);
      for (let n = 0; n < 3; n++) expect((await ask()).status).toBe(200);
      const refused = await ask();
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '10']);
    });
  });
});

test('pipelined requests are answered if there are 16, and one more ends the socket', async () => {
  await withServer({}, async (at) => {
    const many = (count: number) => head('GET /healthz').repeat(count) + head('GET /', 'Connection: close');
    expect(statusesOf(await exchange(at, many(15), 'for the server'))).toHaveLength(16);
    for (const count of [16, 1_000]) expect(await exchange(at, many(count), 'for the server')).toBe('');
    const { text } = await at.call('GET', '/metrics', { token: await at.token('root', 'admin') });
    expect(text).toMatch(/^realtime_sockets_destroyed_total\{reason="pipelined"\} 2$/m);
  });
});

describe('the metrics port', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({ REALTIME_METRICS_PORT: '0' });
  });
  afterAll(() => server.stop());
  const port = () => ({ ...server, port: server.metricsPort ?? 0 });

  test('answers at most 16 pipelined requests', async () => {
    const many = (count: number) =>
      head('GET /metrics').repeat(count) + head('GET /nothing', 'Connection: close');
    expect(statusesOf(await exchange(port(), many(15), 'for the server'))).toHaveLength(16);
    expect(statusesOf(await exchange(port(), many(400), 'for the server')).length).toBeLessThan(17);
  });

  test('answers rubbish with the error object and closes', async () => {
    const answer = await exchange(port(), 'rubbish\r\n\r\n', 'for the server');
    expect(answer).toMatch(/^HTTP\/1\.1 400 [\s\S]*"code":"VALIDATION_FAILED"/);
  });

  test('answers an upgrade like any other request', async () => {
    const text = handshake('room').replace('Connection: Upgrade', 'Connection: Upgrade, close');
    expect(statusesOf(await exchange(port(), text, 'for the server'))).toEqual([404]);
  });
});

describe('sockets', () => {
  test('of one address over the limit are closed before any request, and those of another are not', async () => {
    await withServer({ REALTIME_MAX_CONNECTIONS_PER_IP: '2' }, async (at, log) => {
      const sockets = Array.from({ length: 66 }, () => new RawSocket(at));
      await Promise.all(sockets.map(({ socket }) => once(socket, 'connect')));
      const [first, ...others] = sockets;
      await exchange(at, head('GET /healthz'), 'for the server');
      expect(log.infos).toContainEqual(expect.stringContaining('Socket refused: its address has too many'));
      const other = await join(at, 'room', 'alice', { from: '127.0.0.2' });
      first?.socket.destroy();
      await other.close();
      for (const { socket } of others) socket.destroy();
      await expect.poll(async () => (await at.call('GET', '/healthz').catch(() => null))?.status).toBe(200);
      const { text } = await at.call('GET', '/metrics', { token: await at.token('root', 'admin') });
      expect(text).toMatch(/^realtime_sockets_destroyed_total\{reason="address"\} [1-9]/m);
    });
  });

  test('leave room for a readable refusal at the limit of WebSocket connections', async () => {
    await withServer({ REALTIME_MAX_CONNECTIONS_PER_IP: '2' }, async (at) => {
      await Promise.all([join(at, 'room', 'alice'), join(at, 'room', 'bob')]);
      const refused = dial(at, 'room', { token: await at.token('carol') });
      expect((await refused.next('system', 'error')).payload.code).toBe('CONNECTION_LIMIT_REACHED');
      expect((await refused.closed).code).toBe(4430);
    });
  });

  test('whose client reads nothing of its answers are destroyed after ten seconds', async () => {
    await withServer({}, async (at) => {
      const reader = new RawSocket(at);
      reader.socket.pause();
      const started = performance.now();
      reader.write(head('GET /docs/static/swagger-ui-bundle.js').repeat(16));
      await expect
        .poll(
          async () => (await at.call('GET', '/metrics', { token: await at.token('root', 'admin') })).text,
          {
            timeout: 20_000,
            interval: 200,
          },
        )
        .toMatch(/^realtime_sockets_destroyed_total\{reason="unread"\} 1$/m);
      const seconds = (performance.now() - started) / 1_000;
      expect(seconds).toBeGreaterThan(9);
      expect(seconds).toBeLessThan(15);
      reader.socket.destroy();
    });
  });
});

test('a client that sends bytes while its token is verified, or closes, is dropped without an answer', async () => {
  let held: ServerResponse[] = [];
  const keys = createServer((_request, response) => void held.push(response));
  keys.listen(0, '127.0.0.1');
  await once(keys, 'listening');
  const { port } = keys.address() as AddressInfo;
  const jwt = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const token = `${jwt({ alg: 'RS256', kid: 'a' })}.${jwt({ sub: 'alice' })}.AAAA`;
  const env = { REALTIME_JWT_SECRET: '', REALTIME_JWKS_URL: `http://127.0.0.1:${port}/` };
  await withServer(env, async (at) => {
    const [eager, gone, patient] = [new RawSocket(at), new RawSocket(at), new RawSocket(at)];
    for (const client of [eager, gone, patient]) client.write(handshake('room', { token }));
    await expect.poll(() => held.length).toBeGreaterThan(0);
    eager.write(jsonFrame({ type: 'ping', event: 'ping' }));
    gone.socket.resetAndDestroy();
    await at.call('GET', '/healthz');
    const answer = (response: ServerResponse) => response.end('{"keys":[]}');
    keys
      .removeAllListeners('request')
      .on('request', (_request, response: ServerResponse) => answer(response));
    for (const response of held) answer(response);
    held = [];
    await Promise.all([eager.gone, gone.gone, patient.sees(/AUTH_FAILED/)]);
    expect([eager.text, gone.text]).toEqual(['', '']);
    patient.socket.destroy();
  });
  keys.closeAllConnections();
  keys.close();
});

describe('an answer that is the same for everybody', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer();
  });
  afterAll(() => server.stop());

  test.each([
    '/openapi.json',
    '/docs/json',
    '/docs/yaml',
    '/docs/static/swagger-ui.css',
    '/',
    '/page/page.js',
  ])('%s has an ETag, and is 304 for who has it', async (path) => {
    const first = await server.call('GET', path);
    const etag = first.headers.get('etag') ?? '';
    expect([first.status, etag]).toEqual([200, expect.stringMatching(/^"[\w-]{22}"$/)]);
    expect(first.text.length).toBeGreaterThan(500);
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await server.call('GET', path, { headers: { 'if-none-match': known } });
      expect([again.status, again.text, again.headers.get('etag')]).toEqual([304, '', etag]);
    }
    const changed = await server.call('GET', path, { headers: { 'if-none-match': '"other"' } });
    expect([changed.status, changed.text]).toEqual([200, first.text]);
  });
});

test('REALTIME_HOST=localhost listens on every address of localhost', async () => {
  const addresses = await lookup('localhost', { all: true });
  await withServer({ REALTIME_HOST: 'localhost' }, async (at) => {
    for (const { address, family } of addresses) {
      const host = family === 6 ? `[${address}]` : address;
      expect((await fetch(`http://${host}:${at.port}/healthz`)).status).toBe(200);
    }
  });
});
