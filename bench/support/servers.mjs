import { fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { signToken } from './token.mjs';
import { VoidRun } from './void-run.mjs';

/**
 * A server under test: its port, its process, and the path at which a user joins a channel.
 * @typedef {{
 *   name: string, port: number, pid: number,
 *   path(channel: string, user: { userId: string, role: string }): string,
 *   stop(): Promise<void>,
 * }} BenchServer
 */

/** The server's command line, relative to the root of a built checkout. */
const MAIN = 'packages/server/dist/cli/main.js';

const START_MS = 120_000;
const POLL_MS = 50;

/**
 * All features are on; only the limits that ten thousand connections from one address would reach are raised.
 */
const SETTINGS = {
  REALTIME_MAX_CONNECTIONS: '100000',
  REALTIME_MAX_CONNECTIONS_PER_IP: '100000',
  REALTIME_CONNECTION_RATE: '100000/s, burst 100000',
  REALTIME_MESSAGE_RATE: '1000000/s, burst 1000000',
  REALTIME_MAX_USERS_PER_CHANNEL: '100000',
  REALTIME_LOG_LEVEL: 'warn',
};

/**
 * Starts a build of our server by its command line, with a temporary data folder and the embedded PostgreSQL.
 * Settings in the environment of the benchmark are not passed on. BENCH_NODE_OPTIONS passes options to Node,
 * for profiling.
 * @param {import('./build.mjs').Build} build
 * @param {{ nodeOptions?: string, env?: Record<string, string> }} [options]
 * @returns {Promise<BenchServer & { databaseUrl: string, token(user: { userId: string, role: string }): string }>}
 */
export async function startOurs(
  { root },
  { nodeOptions = process.env.BENCH_NODE_OPTIONS ?? '', env = {} } = {},
) {
  const dataDir = await mkdtemp(join(tmpdir(), 'goforward-bench-'));
  const secret = randomBytes(32).toString('hex');
  const port = await freePort();
  const inherited = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('REALTIME_') && name !== 'DATABASE_URL',
  );
  const child = spawn(
    process.execPath,
    [...nodeOptions.split(' ').filter(Boolean), join(root, MAIN), 'start'],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        ...Object.fromEntries(inherited),
        ...SETTINGS,
        ...env,
        REALTIME_PORT: String(port),
        REALTIME_DATA_DIR: dataDir,
        REALTIME_JWT_SECRET: secret,
      },
    },
  );
  // An interrupted benchmark also stops its server, which stops PostgreSQL.
  const interrupted = () => child.kill('SIGTERM');
  process.once('exit', interrupted);
  const stop = async () => {
    process.off('exit', interrupted);
    const ended = child.exitCode === null ? once(child, 'exit') : undefined;
    child.kill('SIGTERM');
    await ended;
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    const token = (/** @type {{ userId: string, role: string }} */ user) => signToken(secret, user);
    const path = (channel, user) => `/realtime/channels/${channel}/ws?token=${token(user)}`;
    await streaming(child, port);
    const [at, password] = await Promise.all(
      ['postgres-port', 'postgres-password'].map((name) => readFile(join(dataDir, name), 'utf8')),
    );
    const databaseUrl = `postgres://postgres:${password.trim()}@127.0.0.1:${at.trim()}/postgres`;
    return { name: 'ours', port, pid: child.pid ?? 0, databaseUrl, token, path, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * Resolves when row changes are read: earlier changes would not be delivered. Asks until then, since what a server
 * prints at start differs between versions.
 * @param {import('node:child_process').ChildProcess} child
 * @param {number} port
 */
async function streaming(child, port) {
  const deadline = Date.now() + START_MS;
  while (child.exitCode === null && Date.now() < deadline) {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
    const { parts } = (await answer?.json()) ?? {};
    if (parts?.row_changes?.status === 'streaming') return;
    await delay(POLL_MS);
  }
  throw new VoidRun(`Our server did not start (exit ${child.exitCode}).`);
}

/** @returns {Promise<number>} */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  server.close();
  await once(server, 'close');
  return port;
}

/** @returns {Promise<BenchServer>} */
export async function startNaive() {
  const child = fork(fileURLToPath(new URL('../naive-server.mjs', import.meta.url)));
  const [{ port }] = await once(child, 'message');
  return {
    name: 'naive ws',
    port,
    pid: child.pid ?? 0,
    path: (channel, { userId }) => `/${channel}?user=${userId}`,
    async stop() {
      const ended = once(child, 'exit');
      child.kill();
      await ended;
    },
  };
}
