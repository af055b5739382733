import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { runCli, startCli } from '../support/cli.js';
import { createTestDatabase, type TestDatabase } from '../support/postgres-database.js';
import type { ServerProcess } from '../support/server-process.js';
import { call } from '../support/test-server.js';

let folder: string;
let database: TestDatabase;
let server: ServerProcess | undefined;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'goforward-cli-start-'));
  database = await createTestDatabase();
});
afterEach(async () => {
  if (server !== undefined) await stop(server);
  server = undefined;
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await database.drop();
});

async function start(env: Readonly<Record<string, string>>): Promise<ServerProcess> {
  server = startCli(['start'], {
    cwd: folder,
    env: { DATABASE_URL: database.url, REALTIME_PORT: '0', ...env },
  });
  await server.started();
  return server;
}

async function stop(running: ServerProcess): Promise<number | null> {
  running.kill('SIGTERM');
  return running.exited;
}

const logLines = (running: ServerProcess) =>
  running.stderr
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { level: number; msg: string; time: string });

test('REALTIME_DATA_DIR keeps the generated secret for its owner alone, and the command line signs with it', async () => {
  const dataDir = join(folder, 'kept', 'data');
  const running = await start({ REALTIME_DATA_DIR: dataDir });
  const file = join(dataDir, 'jwt-secret');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(statSync(dataDir).mode & 0o777).toBe(0o700);

  const env = { REALTIME_DATA_DIR: dataDir, DATABASE_URL: database.url };
  const { stdout } = await runCli(['token', '--role', 'admin'], { cwd: folder, env });
  const token = stdout.trim();
  expect((await call(running.url, 'GET', '/realtime/stats', { token })).status).toBe(200);

  expect(await stop(running)).toBe(0);
  const restarted = await start({ REALTIME_DATA_DIR: dataDir });
  expect((await call(restarted.url, 'GET', '/realtime/stats', { token })).status).toBe(200);
});

describe('with NODE_ENV=production', () => {
  const production = (dataDir: string) => ({
    DATABASE_URL: database.url,
    REALTIME_PORT: '0',
    REALTIME_DATA_DIR: dataDir,
    NODE_ENV: 'production',
  });

  test.each(['start', 'token'])(
    '%s without a key for tokens prints one line that names the setting, and creates nothing',
    async (command) => {
      const [fresh, empty] = [join(folder, `fresh-${command}`, 'data'), join(folder, `empty-${command}`)];
      mkdirSync(empty);
      for (const dataDir of [fresh, empty]) {
        const { code, stdout, stderr } = await runCli([command], { cwd: folder, env: production(dataDir) });
        expect([code, stdout]).toEqual([2, '']);
        expect(stderr).toMatch(/^NODE_ENV is production [^\n]*set REALTIME_JWT_SECRET [^\n]*\n$/);
      }
      expect(existsSync(join(folder, `fresh-${command}`))).toBe(false);
      expect(readdirSync(empty)).toEqual([]);
    },
  );

  test('start without a key uses the secret that an earlier start generated, and warns', async () => {
    const dataDir = join(folder, 'promoted');
    await stop(await start({ REALTIME_DATA_DIR: dataDir }));
    const running = await start({ ...production(dataDir), REALTIME_LOG_FORMAT: 'json' });
    const warnings = logLines(running).filter(({ level }) => level === 40);
    expect(warnings.map(({ msg }) => msg)).toContainEqual(
      expect.stringMatching(/^REALTIME_JWT_SECRET is not set: /),
    );
  });

  test('start with a key does not warn', async () => {
    const running = await start({
      ...production(join(folder, 'configured')),
      REALTIME_JWT_SECRET: 'the secret of the start tests',
    });
    expect(running.stderr).not.toContain('REALTIME_JWT_SECRET');
  });
});

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s stops the server cleanly', async (signal) => {
  const env = { REALTIME_JWT_SECRET: 'the secret of the start tests', REALTIME_LOG_FORMAT: 'json' };
  const running = await start(env);
  running.kill(signal);
  expect(await running.exited).toBe(0);
  expect(logLines(running).at(-1)?.msg).toBe('Stopped');
});

test('a configured server prints its addresses, and neither a password nor a secret nor a token', async () => {
  const url = new URL(database.url);
  url.password ||= 'a-password-that-nobody-asks-for';
  const running = await start({
    DATABASE_URL: url.href,
    REALTIME_JWT_SECRET: 'the secret of the start tests',
    REALTIME_METRICS_PORT: '0',
  });
  for (const name of ['Page', 'WebSocket', 'API', 'Metrics', 'Database'])
    expect(running.line(name)).not.toBe('');
  expect(running.line('Database')).toContain(':********@');
  expect((await call(running.line('Metrics').replace('/metrics', ''), 'GET', '/metrics')).status).toBe(200);
  const printed = running.stdout + running.stderr;
  expect(printed).not.toContain(url.password);
  expect(printed).not.toContain('the secret of');
  expect(printed).not.toMatch(/eyJ/);
});

test('REALTIME_LOG_LEVEL=debug logs each request, info does not, and error logs nothing; logs are JSON on stderr', async () => {
  const env = { REALTIME_JWT_SECRET: 'the secret of the start tests' };
  for (const [level, format, logsRequests, logsAnything] of [
    ['debug', 'json', true, true],
    ['info', 'json', false, true],
    // A JSON log at this level would not even say that the server has started.
    ['error', 'pretty', false, false],
  ] as const) {
    const running = await start({ ...env, REALTIME_LOG_LEVEL: level, REALTIME_LOG_FORMAT: format });
    await call(running.url, 'GET', '/healthz');
    expect(await stop(running)).toBe(0);
    const lines = logLines(running);
    expect(lines.some(({ msg }) => msg === 'Request answered')).toBe(logsRequests);
    expect(lines.length > 0).toBe(logsAnything);
    for (const { time } of lines) expect(time).toMatch(/^\d{4}-\d\d-\d\dT/);
    server = undefined;
  }
});

describe('REALTIME_LOG_FORMAT', () => {
  const secret = { REALTIME_JWT_SECRET: 'the secret of the start tests' };

  test.each(['auto', 'json'])(
    '%s: logs JSON, and prints no banner and no token beside it',
    async (format) => {
      const running = await start({ REALTIME_LOG_FORMAT: format });
      expect(await stop(running)).toBe(0);
      const lines = logLines(running);
      expect(lines.at(-1)?.msg).toBe('Stopped');
      expect(lines.find(({ msg }) => msg === 'Server started')).toEqual({
        level: 30,
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
        msg: 'Server started',
        version: expect.any(String),
        page: expect.stringMatching(/^http:\/\/localhost:\d+\/$/),
        websocket: expect.stringMatching(/^ws:\/\/localhost:\d+\/realtime\//),
        api: expect.stringMatching(/\/docs$/),
        database: expect.stringContaining('(DATABASE_URL)'),
      });
      expect(running.stdout).toBe('');
      expect(running.stderr).not.toContain('eyJ');
    },
  );

  test('pretty prints readable lines, without colours if the output is not a terminal', async () => {
    const running = await start({ ...secret, REALTIME_LOG_FORMAT: 'pretty' });
    expect(await stop(running)).toBe(0);
    expect(running.stdout).toMatch(/^ {2}Page +http:\/\/localhost:\d+\/$/m);
    expect(running.stdout).not.toContain('{');
    expect(running.stderr).toMatch(/^\[\d\d:\d\d:\d\d\] INFO: Stopped$/m);
    expect(running.stdout + running.stderr).not.toContain('\u001b');
  });
});

test('with REALTIME_ENABLE_CONSOLE=false, the startup banner names no page and no API documentation', async () => {
  const env = { REALTIME_JWT_SECRET: 'the secret of the start tests', REALTIME_ENABLE_CONSOLE: 'false' };
  const running = await start(env);
  expect(running.line('WebSocket')).toContain('/realtime/channels/');
  expect(running.stdout).not.toMatch(/Page|API/);
});
