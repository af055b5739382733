import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { RawSocket } from '../support/raw-socket.js';
import { startTestServer, startUnconfiguredServer, type TestServer } from '../support/test-server.js';

const LISTED = 'https://app.example.com';

let strict: TestServer;
let listing: TestServer;
let open: TestServer;
beforeAll(async () => {
  [strict, listing, open] = await Promise.all([
    startTestServer(),
    startTestServer({ REALTIME_ALLOWED_ORIGINS: `${LISTED},https://other.example:8443` }),
    startTestServer({ REALTIME_ALLOWED_ORIGINS: '*' }),
  ]);
});
afterAll(() => Promise.all([strict, listing, open].map((server) => server.stop())));

/** Returns the status that a handshake with these headers gets. */
async function handshake(server: TestServer, headers: Record<string, string>): Promise<number> {
  const url = `ws://127.0.0.1:${server.port}/realtime/channels/room/ws?token=${await server.token('ada')}`;
  const socket = new WebSocket(url, { headers });
  return new Promise((resolve, reject) => {
    socket.once('open', () => {
      socket.terminate();
      resolve(101);
    });
    socket.once('unexpected-response', (request, response) => {
      request.destroy();
      resolve(response.statusCode ?? 0);
    });
    socket.once('error', reject);
  });
}

type Which = 'strict' | 'listing' | 'open';
const serverOf = (which: Which) => ({ strict, listing, open })[which];

const CASES: readonly [which: Which, origin: string | undefined, allowed: boolean, why: string][] = [
  ['strict', undefined, true, 'the request is not from a page'],
  ['strict', 'http://127.0.0.1:<port>', true, "it is the server's own host"],
  ['strict', 'https://127.0.0.1:<port>', true, "a proxy may terminate TLS for the server's own host"],
  ['strict', 'http://localhost:3000', true, 'both are loopback'],
  ['strict', 'http://127.9.9.9', true, 'both are loopback'],
  ['strict', 'http://[::1]:5173', true, 'both are loopback'],
  ['strict', 'https://evil.example', false, 'it is not listed'],
  ['strict', 'http://127.0.0.1.evil.example', false, 'the name only starts like loopback'],
  ['strict', 'http://localhost.evil.example', false, 'the name only starts like localhost'],
  ['strict', 'http://192.168.0.1', false, 'it is another machine'],
  ['strict', 'null', false, 'any sandboxed page sends it'],
  ['strict', '', false, 'it is empty'],
  ['strict', 'rubbish', false, 'it is not an origin'],
  ['strict', 'file://', false, 'a file has no host'],
  ['listing', LISTED, true, 'it is listed'],
  ['listing', 'https://APP.example.com', true, 'host names are case-insensitive'],
  ['listing', 'https://other.example:8443', true, 'it is listed with its port'],
  ['listing', 'https://other.example', false, 'the port differs'],
  ['listing', 'http://app.example.com', false, 'the scheme differs'],
  ['listing', 'https://app.example.com.evil.example', false, 'it only starts like a listed one'],
  ['listing', 'https://sub.app.example.com', false, 'it is a subdomain of a listed one'],
  ['listing', 'http://localhost:3000', true, 'both are loopback, whatever is listed'],
  ['open', 'https://evil.example', true, 'all are listed'],
  ['open', 'null', true, 'all are listed'],
];

describe.each(CASES)('on the %s server, the origin %s (allowed: %s, because %s)', (which, given, allowed) => {
  const origin = () => given?.replace('<port>', String(serverOf(which).port));
  const headers = () => (given === undefined ? {} : { origin: origin() ?? '' });

  test('is treated alike by HTTP and by the WebSocket handshake', async () => {
    const server = serverOf(which);
    const answer = await server.call('GET', '/realtime/channels', {
      token: await server.token('ada'),
      headers: headers(),
    });
    expect(answer.status).toBe(allowed ? 200 : 403);
    if (!allowed)
      expect(answer.body).toEqual({
        error: 'origin not allowed',
        code: 'ORIGIN_NOT_ALLOWED',
        details: `The origin ${JSON.stringify(given)} is not in REALTIME_ALLOWED_ORIGINS`,
      });
    const readable = answer.headers.get('access-control-allow-origin');
    expect(readable).toBe(allowed && given !== undefined ? origin() : null);
    expect(await handshake(server, headers())).toBe(allowed ? 101 : 403);
  });
});

const preflight = (server: TestServer, origin: string, method = 'POST', path = '/realtime/channels') =>
  server.call('OPTIONS', path, {
    headers: {
      origin,
      'access-control-request-method': method,
      'access-control-request-headers': 'authorization,content-type',
    },
  });

test('a preflight from an allowed page gets the allowed methods and headers without a token', async () => {
  for (const path of ['/realtime/channels', '/realtime/channels/room/broadcast', '/realtime/stats']) {
    const { status, headers, text } = await preflight(listing, LISTED, 'POST', path);
    expect([status, text]).toEqual([204, '']);
    expect(headers.get('access-control-allow-origin')).toBe(LISTED);
    expect(headers.get('access-control-allow-methods')?.split(', ')).toEqual(
      expect.arrayContaining(['GET', 'POST', 'DELETE']),
    );
    expect(headers.get('access-control-allow-headers')?.toLowerCase()).toBe('authorization, content-type');
    expect(Number(headers.get('access-control-max-age'))).toBeGreaterThan(0);
    expect(headers.get('access-control-allow-credentials')).toBeNull();
  }
});

test('a preflight from a foreign page is refused and gets no CORS headers', async () => {
  const { status, headers, body } = await preflight(listing, 'https://evil.example');
  expect([status, body.code]).toEqual([403, 'ORIGIN_NOT_ALLOWED']);
  expect(headers.get('access-control-allow-origin')).toBeNull();
  expect(headers.get('access-control-allow-methods')).toBeNull();
});

test('an allowed page can read errors and Retry-After', async () => {
  for (const [path, status] of [
    ['/realtime/channels', 401],
    ['/nothing', 404],
    ['/realtime/channels/room/ws', 400],
  ] as const) {
    const answer = await listing.call('GET', path, { headers: { origin: LISTED } });
    expect(answer.status).toBe(status);
    expect(answer.headers.get('access-control-allow-origin')).toBe(LISTED);
    expect(answer.headers.get('access-control-expose-headers')?.toLowerCase()).toContain('retry-after');
  }
});

test('answers carry Vary: Origin, because they depend on the origin', async () => {
  const answer = await listing.call('GET', '/healthz', { headers: { origin: LISTED } });
  expect(answer.headers.get('vary')?.toLowerCase()).toContain('origin');
});

test('the origin is checked before the token, so that a foreign page learns nothing about tokens', async () => {
  const answer = await strict.call('GET', '/realtime/stats', { headers: { origin: 'https://evil.example' } });
  expect(answer.status).toBe(403);
});

test('a configured server accepts any Host that its operator has pointed at it', async () => {
  const host = 'realtime.internal:9999';
  expect(await handshake(strict, { host })).toBe(101);
  expect(await handshake(strict, { host, origin: 'https://realtime.internal:9999' })).toBe(101);
  expect(await handshake(strict, { host, origin: 'http://localhost:3000' })).toBe(403);
});

test('an unconfigured server accepts only the Host names of this machine, for handshakes and for its demo token', async () => {
  const unconfigured = await startUnconfiguredServer();
  try {
    for (const [host, status] of [
      [`localhost:${unconfigured.port}`, 101],
      [`127.0.0.1:${unconfigured.port}`, 101],
      ['[::1]', 101],
      [`rebound.example:${unconfigured.port}`, 403],
    ] as const) {
      expect([host, await handshake(unconfigured, { host })]).toEqual([host, status]);
      const raw = new RawSocket(unconfigured);
      raw.write(`GET /demo-session HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      await raw.gone;
      expect(raw.text).toContain(status === 101 ? '"token":"' : 'ORIGIN_NOT_ALLOWED');
    }
  } finally {
    await unconfigured.stop();
  }
});
