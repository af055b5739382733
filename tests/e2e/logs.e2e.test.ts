import { createLog } from '@goforward/realtime';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres-database.js';
import { PostgresProxy } from '../support/postgres-proxy.js';
import { RawSocket } from '../support/raw-socket.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { signClaims } from '../support/tokens.js';

const SECRET = 'log-marker-secret-of-the-server';
const PASSWORD = 'log-marker-password';

let lines: string[];
let database: TestDatabase;
let proxy: PostgresProxy;
let server: TestServer;
beforeAll(async () => {
  lines = [];
  database = await createTestDatabase();
  proxy = new PostgresProxy(database.url);
  await proxy.open();
  const url = new URL(proxy.url);
  url.password ||= PASSWORD;
  const log = createLog('trace', { write: (line) => void lines.push(line) });
  server = await startTestServer(
    { DATABASE_URL: url.href, REALTIME_JWT_SECRET: SECRET, REALTIME_MAX_RECONNECT_DELAY: '100ms' },
    { log },
  );
});
afterAll(async () => {
  await server.stop();
  await proxy.close();
  await database.drop();
});

const records = () => lines.map((line) => JSON.parse(line) as Record<string, unknown>);

test('the log at level trace contains no token, payload, state or secret, even of failed requests', async () => {
  const good = await server.token('log-user', 'admin');
  const forged = await signClaims({ sub: 'log-user', role: 'admin' }, 'log-marker-other-secret');
  const body = { event: 'log-marker-event', payload: { text: 'log-marker-payload' } };

  await server.call('POST', '/realtime/channels', {
    token: good,
    body: { name: 'logged', metadata: { note: 'log-marker-metadata' } },
  });
  for (const token of [good, forged, 'log-marker-rubbish']) {
    await server.call('POST', '/realtime/channels/logged/broadcast', { token, body });
    await server.call('GET', `/realtime/channels?token=${token}`, { token });
    await server.call('GET', `/log-marker-path/${token}?token=${token}`);
    await server.call('GET', `/%zz${token}`);
    await server.call('GET', '/healthz', {
      headers: { cookie: 'log-marker-cookie', origin: 'https://foreign.example' },
    });
  }
  await server.call('POST', '/realtime/channels/logged/broadcast', {
    token: good,
    body: '{"log-marker-broken',
  });
  await server.call('POST', '/realtime/channels/logged/presence', {
    token: good,
    body: { state: { text: 'log-marker-state' } },
  });

  const client = await join(server, 'logged', 'log-user', { token: good });
  client.send({ type: 'broadcast', ...body });
  client.send({ type: 'presence', event: 'update', payload: { state: { text: 'log-marker-state' } } });
  client.send('{"log-marker-broken');
  client.send({ type: 'log-marker-type', event: 'x', payload: 'log-marker-payload' });
  await client.settle();
  for (const options of [
    { token: forged },
    { token: 'log-marker-rubbish' },
    { protocols: ['goforward.v1', `bearer.${forged}`] },
    { headers: { authorization: `Bearer ${forged}` } },
  ]) {
    await dial(server, 'logged', options).closed;
  }
  const raw = new RawSocket(server);
  raw.write(`GET /?token=${good} log-marker-nonsense\r\n\r\n`);
  await raw.gone;

  await proxy.close();
  await eventually(async () => {
    const { body: ready } = await server.call('GET', '/readyz');
    expect(ready.parts.database?.status).toBe('down');
  });
  await server.call('POST', '/realtime/channels', {
    token: good,
    body: { name: 'refused', metadata: { note: 'log-marker-metadata' } },
  });
  await proxy.open();
  await client.close();

  const text = lines.join('');
  expect(lines.length).toBeGreaterThan(20);
  for (const secret of [good, forged]) {
    for (const part of secret.split('.')) expect(text).not.toContain(part);
  }
  expect(text).not.toMatch(/log-marker|eyJ/);
  expect(text).not.toContain(new URL(proxy.url).password || PASSWORD);
});

test('a refused token and a refused origin are each logged once, with the setting, the address and the channel', () => {
  const lines = records().filter(({ msg }) => /^(Authentication failed|Origin refused): /.test(String(msg)));
  const at = { level: 30, address: '127.0.0.1' };
  expect(lines).toEqual([
    expect.objectContaining({
      ...at,
      msg: 'Origin refused: The origin "https://foreign.example" is not in REALTIME_ALLOWED_ORIGINS',
    }),
    expect.objectContaining({
      ...at,
      channel: 'logged',
      reason: 'signature',
      msg: 'Authentication failed: The token was signed with another key than REALTIME_JWT_SECRET',
    }),
    expect.objectContaining({
      ...at,
      channel: 'logged',
      reason: 'malformed',
      msg: 'Authentication failed: The token is not a JWT',
    }),
  ]);
});

test('a line about a connection has a constant message and the connection as a field', async () => {
  const client = await join(server, 'logged', 'log-user');
  const id = client.received[0]?.payload.connection_id;
  await client.close();
  expect(records()).toContainEqual(
    expect.objectContaining({ msg: 'Connection opened', connection: id, channel: 'logged' }),
  );
});

test('a request is logged with its route, never with its path', async () => {
  expect(records()).toContainEqual(
    expect.objectContaining({
      msg: 'Request answered',
      method: 'POST',
      route: '/realtime/channels/:name/broadcast',
      status: 200,
    }),
  );
});

test('errors that clients cause are not logged as errors', async () => {
  expect(records().filter(({ level }) => Number(level) >= 50)).toEqual([]);
});
