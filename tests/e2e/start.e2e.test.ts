import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Clone } from '../support/clone.js';
import { ServerProcess } from '../support/server-process.js';
import { TestClient } from '../support/test-client.js';
import { call } from '../support/test-server.js';

/** Allows for installing and building a fresh clone, as a new user would. */
const TIMEOUT_MS = 240_000;
const isRoot = process.getuid?.() === 0;

let clone: Clone;
const running = new Set<ServerProcess>();

beforeAll(() => {
  clone = new Clone();
});

afterAll(async () => {
  for (const server of running) server.destroy();
  await Promise.all([...running].map((server) => server.exited));
  clone.remove();
});

async function npmStart(account: { uid?: number; gid?: number } = {}, env = {}): Promise<ServerProcess> {
  const server = new ServerProcess('npm', ['start', '--', '--port', '0'], {
    cwd: clone.folder,
    env: { npm_config_prefer_offline: 'true', npm_config_update_notifier: 'false', ...env },
    ...account,
  });
  running.add(server);
  await server.started();
  return server;
}

/** Returns the id of the server's own process, below npm and its shell. */
function nodePid(dataDir: string): number {
  return Number.parseInt(readFileSync(join(dataDir, 'server.pid'), 'utf8'), 10);
}

async function connect(server: ServerProcess, channel: string): Promise<TestClient> {
  const url = `${server.url.replace('http', 'ws')}/realtime/channels/${channel}/ws`;
  const client = new TestClient(`${url}?token=${server.line('User token')}`, [], {});
  await client.next('system', 'connected');
  return client;
}

async function exchangeMessage(server: ServerProcess): Promise<void> {
  const client = await connect(server, 'lobby');
  client.send({ type: 'broadcast', event: 'chat_message', payload: { message: 'Hello!' } });
  expect((await client.next('message', 'chat_message')).payload.message).toBe('Hello!');
  await client.close();
}

async function awaitExit(server: ServerProcess): Promise<number | null> {
  const code = await server.exited;
  running.delete(server);
  return code;
}

describe('npm start on a fresh clone', () => {
  test(
    'starts, delivers a first message, keeps its data across kill -9, refuses a second server, and exits with 0',
    async () => {
      const dataDir = join(clone.folder, '.goforward');
      const first = await npmStart();
      await exchangeMessage(first);
      expect(first.line('Database')).toMatch(
        /^postgres:\/\/postgres:[\w-]+@127\.0\.0\.1:\d+\/postgres \(embedded\)$/,
      );
      const admin = first.line('Admin token');
      const created = await call(first.url, 'POST', '/realtime/channels', {
        token: admin,
        body: { name: 'kept' },
      });
      expect(created.status).toBe(201);
      process.kill(nodePid(dataDir), 'SIGKILL');
      await awaitExit(first);

      const second = await npmStart();
      expect(second.stderr).not.toMatch(/Installing|Building/);
      const shown = await call(second.url, 'GET', '/realtime/channels/kept', { token: admin });
      expect(shown.body).toEqual({ name: 'kept', subscriber_count: 0, presence: {} });
      expect(second.line('Database')).toBe(first.line('Database'));

      const twin = new ServerProcess('npm', ['start', '--', '--port', '0'], { cwd: clone.folder });
      expect(await twin.exited).toBe(1);
      expect(twin.stderr.trim().split('\n')).toEqual([
        expect.stringContaining(`Another server (process ${nodePid(dataDir)}) uses the data folder`),
      ]);

      const client = await connect(second, 'lobby');
      second.kill('SIGTERM');
      expect(await client.closed).toEqual({ code: 1012, reason: 'server restart' });
      expect(await awaitExit(second)).toBe(0);
    },
    TIMEOUT_MS,
  );

  test(
    'starts a built tree after npm ci --omit=dev without installing or building',
    async () => {
      const install = ['ci', '--omit=dev', '--prefer-offline', '--no-audit', '--no-fund'];
      execFileSync('npm', install, { cwd: clone.folder, stdio: 'pipe' });
      expect(existsSync(join(clone.folder, 'node_modules', 'typescript'))).toBe(false);
      const server = await npmStart();
      expect(server.stderr).not.toMatch(/Installing|Building/);
      await exchangeMessage(server);
      server.kill('SIGTERM');
      expect(await awaitExit(server)).toBe(0);
    },
    TIMEOUT_MS,
  );

  test.runIf(isRoot)(
    'runs as an ordinary user from a private home, and exits with 0 on Ctrl-C, which signals it twice',
    async () => {
      const id = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
      const account = { uid: id('-u'), gid: id('-g') };
      clone.giveTo(account.uid, account.gid);
      const dataDir = join(clone.folder, 'data-of-nobody');
      const env = { HOME: clone.folder, REALTIME_DATA_DIR: dataDir };
      const server = await npmStart(account, env);
      await exchangeMessage(server);
      const client = await connect(server, 'lobby');
      server.interrupt();
      expect((await client.closed).code).toBe(1012);
      expect(await awaitExit(server)).toBe(0);
    },
    TIMEOUT_MS,
  );
});
