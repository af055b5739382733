import { expect, test } from 'vitest';
import { loadSettings } from '../config/load-settings.js';
import type { Settings } from '../config/settings-table.js';
import type { RealtimeServer } from '../server.js';
import { startupBanner, startupFields } from './startup-banner.js';

const DATABASE = 'postgres://me:hidden@db.example:5432/app';

/** What `startupBanner` reads. */
type ShownServer = Pick<
  RealtimeServer,
  'port' | 'metricsPort' | 'isUnconfigured' | 'databaseUrl' | 'databaseProblem' | 'sign'
>;

function bannerOf(server: Partial<ShownServer>, env: Record<string, string> = {}): Promise<string> {
  return startupBanner(...shownServer(server, env));
}

function shownServer(
  server: Partial<ShownServer>,
  env: Record<string, string> = {},
): [RealtimeServer, Settings] {
  const { settings } = loadSettings({ flags: {}, env, envFile: {} });
  const shown: ShownServer = {
    port: 8080,
    metricsPort: undefined,
    isUnconfigured: false,
    databaseUrl: DATABASE,
    databaseProblem: null,
    sign: async (userId, role) => `token-of-${role}-${userId}`,
    ...server,
  };
  return [shown as RealtimeServer, settings];
}

const row = (text: string, name: string) => new RegExp(`^  ${name} +(.+)$`, 'm').exec(text)?.[1];

test('an unconfigured server shows its addresses and a token for a user and an admin', async () => {
  const text = await bannerOf({ isUnconfigured: true });
  expect(row(text, 'Page')).toBe('http://localhost:8080/');
  expect(row(text, 'WebSocket')).toBe('ws://localhost:8080/realtime/channels/<channel>/ws?token=<token>');
  expect(row(text, 'Database')).toBe(`${DATABASE} (embedded)`);
  expect(row(text, 'User token')).toMatch(/^token-of-user-[0-9a-f-]{36}$/);
  expect(row(text, 'Admin token')).toMatch(/^token-of-admin-[0-9a-f-]{36}$/);
  expect(text).toContain('Open the page in two browsers');
});

test('a configured server hides the password and signs no tokens', async () => {
  const text = await bannerOf({}, { DATABASE_URL: DATABASE });
  expect(row(text, 'Database')).toBe('postgres://me:********@db.example:5432/app (DATABASE_URL)');
  expect(text).not.toMatch(/hidden|token-of/);
  expect(text).toContain('Create a token with: npx goforward-realtime token');
});

test('a server that cannot sign asks for a token from the issuer', async () => {
  expect(await bannerOf({ sign: undefined })).toContain('Connect with a token from your issuer');
});

test('the admin token has the first of the admin roles', async () => {
  const text = await bannerOf({ isUnconfigured: true }, { REALTIME_ADMIN_ROLES: 'root,ops' });
  expect(row(text, 'Admin token')).toMatch(/^token-of-root-/);
});

test('a database that cannot be reached is shown with the reason', async () => {
  const text = await bannerOf({ databaseProblem: 'connection refused at db.example:5432' });
  expect(row(text, 'Database')).toMatch(/, waiting: connection refused at db\.example:5432\)$/);
});

test.each([
  ['127.0.0.1', 'localhost'],
  ['0.0.0.0', 'localhost'],
  ['::', 'localhost'],
  ['192.168.1.7', '192.168.1.7'],
  ['2001:db8::1', '[2001:db8::1]'],
  ['realtime.internal', 'realtime.internal'],
])('a server on %s is shown as %s', async (host, shown) => {
  const text = await bannerOf({ metricsPort: 9 }, { REALTIME_HOST: host });
  expect(row(text, 'Page')).toBe(`http://${shown}:8080/`);
  expect(row(text, 'Metrics')).toBe(`http://${shown}:9/metrics`);
});

test('without its console, the banner names neither the page nor the API documentation', async () => {
  const text = await bannerOf({ isUnconfigured: true }, { REALTIME_ENABLE_CONSOLE: 'false' });
  expect(row(text, 'Page')).toBeUndefined();
  expect(row(text, 'API')).toBeUndefined();
  expect(row(text, 'User token')).toBeDefined();
  expect(text).not.toContain('Open the page');
});

test('a JSON log has the addresses, and neither a token nor the password of the database', () => {
  const fields = startupFields(...shownServer({ isUnconfigured: true, metricsPort: 9 }));
  expect(fields).toEqual({
    version: expect.any(String),
    page: 'http://localhost:8080/',
    websocket: 'ws://localhost:8080/realtime/channels/<channel>/ws?token=<token>',
    api: 'http://localhost:8080/docs',
    metrics: 'http://localhost:9/metrics',
    database: 'postgres://me:********@db.example:5432/app (embedded)',
  });
});

test('names and values are aligned in two columns', async () => {
  const lines = (await bannerOf({ isUnconfigured: true }))
    .split('\n')
    .filter((line) => /^ {2}\w+( \w+)? {2,}/.test(line));
  expect(lines.length).toBeGreaterThan(4);
  expect(new Set(lines.map((line) => /^ {2}\w+(?: \w+)? +/.exec(line)?.[0].length)).size).toBe(1);
});
