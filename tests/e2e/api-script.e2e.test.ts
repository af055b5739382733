import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Finished } from '../support/cli.js';
import { run, subscribe } from '../support/row-changes.js';
import { startRowChangeServer, startUnconfiguredServer, type TestServer } from '../support/test-server.js';

const SCRIPT = fileURLToPath(new URL('../../test_realtime_api.sh', import.meta.url));
const hasPsql = spawnSync('psql', ['--version']).status === 0;

let fresh: TestServer;
let configured: TestServer;
beforeAll(async () => {
  [fresh, configured] = await Promise.all([startUnconfiguredServer(), startRowChangeServer()]);
});
afterAll(() => Promise.all([fresh.stop(), configured.stop()]));

/** Runs the script against a server, with tokens for it. */
async function script(
  server: TestServer,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<Finished> {
  const { DATABASE_URL: _, ...inherited } = process.env;
  const tokens = {
    ADMIN_TOKEN: await server.token('admin', 'admin'),
    USER_TOKEN: await server.token('user'),
  };
  const child = spawn('bash', [SCRIPT, ...args], {
    env: { ...inherited, REALTIME_URL: server.url, ...tokens, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number]>,
  ]);
  return { code, stdout, stderr };
}

/** Returns the channels, enabled tables and the number of subscriptions of a server. */
async function contentsOf(server: TestServer) {
  const token = await server.token('root', 'admin');
  const get = async (path: string) => (await server.call('GET', path, { token })).body;
  const { channels } = await get('/realtime/channels');
  const { subscriptions } = await get('/realtime/subscriptions');
  const { triggers } = await get('/realtime/triggers');
  return {
    channels: channels.map(({ name }) => name),
    subscriptions: subscriptions.length,
    tables: triggers.map(({ table }) => table),
  };
}

test('on a fresh server, the script passes, calls every operation of openapi.json and leaves nothing behind', async () => {
  const { code, stdout, stderr } = await script(fresh, ['--verbose']);
  expect(stdout).toMatch(/\n\d+ passed, 0 failed\n$/);
  expect([code, stderr]).toEqual([0, '']);

  const called = [...stdout.matchAll(/^> (\S+) (\S+)$/gm)].map(([, method, path]) => `${method} ${path}`);
  const { paths } = JSON.parse((await fresh.call('GET', '/openapi.json')).text) as {
    paths: Record<string, Record<string, unknown>>;
  };
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(operations.length).toBeGreaterThan(15);
  const missing = operations.filter((operation) => {
    const pattern = new RegExp(`^${operation.replaceAll(/\{\w+\}/g, '[^/]+')}$`);
    return !called.some((call) => pattern.test(call));
  });
  expect(missing).toEqual([]);
  expect(await contentsOf(fresh)).toEqual({ channels: [], subscriptions: 0, tables: [] });
});

test('the script leaves a table that was enabled before enabled and subscribed', async () => {
  await run(configured, 'CREATE TABLE test_table (id int PRIMARY KEY)');
  await subscribe(configured, 'kept', { table: 'test_table' });
  const before = await contentsOf(configured);
  const { code, stdout } = await script(configured, ['--table', 'test_table']);
  expect(stdout).toContain(' passed, 0 failed');
  expect(code).toBe(0);
  expect(await contentsOf(configured)).toEqual(before);
});

test.runIf(hasPsql)('with psql, the script creates, checks and drops a table of its own', async () => {
  const before = await contentsOf(configured);
  const { stdout } = await script(configured, [], { DATABASE_URL: configured.databaseUrl });
  expect(stdout).toContain('ok      The WebSocket receives the row change');
  expect(stdout).toContain(' passed, 0 failed');
  expect(await contentsOf(configured)).toEqual(before);
  const tables = await run(configured, `SELECT relname FROM pg_class WHERE relname LIKE 'api_test_%'`);
  expect(tables).toEqual([]);
});

test('without a usable table, the script fails and says how to name one', async () => {
  const { code, stdout } = await script(configured, ['--table', 'no_such_table']);
  expect(stdout).toContain('name a table with --table, or set DATABASE_URL and install psql');
  expect(stdout).not.toContain(' 0 failed');
  expect(code).toBe(1);
});

test.each<[what: string, env: (server: TestServer) => Promise<Record<string, string>>, line: RegExp]>([
  [
    'an admin token that another server signed',
    async () => ({ ADMIN_TOKEN: await fresh.token('admin', 'admin') }),
    /^The server at \S+ rejected the admin token\. Set ADMIN_TOKEN to /,
  ],
  [
    'an admin token without an admin role',
    async (server) => ({ ADMIN_TOKEN: await server.token('admin', 'user') }),
    /^The admin token does not have the needed role\. Set ADMIN_TOKEN to /,
  ],
  [
    'a malformed user token',
    async () => ({ USER_TOKEN: 'nonsense' }),
    /^The server at \S+ rejected the user token\. Set USER_TOKEN to /,
  ],
  [
    'a server that does not answer',
    async () => ({ REALTIME_URL: 'http://127.0.0.1:1' }),
    /^No server answers at http:\/\/127\.0\.0\.1:1\. Start one with: npm start$/m,
  ],
])('the script prints one line and exits with 1 for %s', async (_what, env, line) => {
  const { code, stdout, stderr } = await script(configured, [], await env(configured));
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(/^[^\n]+\n$/);
  expect(stderr).toMatch(line);
});

test('--help lists the options, and an unknown argument exits with 2', async () => {
  const help = await script(configured, ['--help']);
  expect([help.code, help.stderr]).toEqual([0, '']);
  for (const name of ['--table', '--verbose', 'REALTIME_URL', 'ADMIN_TOKEN', 'USER_TOKEN', 'DATABASE_URL'])
    expect(help.stdout).toMatch(new RegExp(`^  ${name}\\b`, 'm'));
  expect(await script(configured, ['--colour'])).toEqual({
    code: 2,
    stdout: '',
    stderr: 'Unknown argument --colour. See --help.\n',
  });
});
