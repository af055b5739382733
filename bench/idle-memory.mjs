import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { LoadClient } from './support/load-client-process.mjs';
import { residentBytes } from './support/process-usage.mjs';
import { startNaive, startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary = 'memory of an idle authenticated connection in a channel with presence';

const CONNECTIONS = 10_000;
/**
 * Few: enough to load and compile the code for connections, too few to grow a heap that the others would
 * reuse.
 */
const WARM_UP_CONNECTIONS = 20;
/**
 * Longer than the ping interval of 30 s, so that every connection is pinged once, and V8 may collect garbage.
 */
const IDLE_MS = 35_000;
const TARGET_KB = 12;

/** Users who may write in a channel whose other members only read. */
const SPEAKERS = 100;
const CHANNEL_SIZE = 25;

const NAIVE = 'naive ws, no authentication or presence';
const AUDIENCE = `one channel, ${SPEAKERS} listed users, the others only read`;
const LISTED = `channels of ${CHANNEL_SIZE} users, all listed`;

export const title = `resident memory per connection, ${CONNECTIONS} connections of different users, ${IDLE_MS / 1000} s idle`;
export const rounds = 1;

/** @param {import('./support/build.mjs').Build} build */
export async function measure(build) {
  /** @type {Record<string, number>} */
  const values = {};
  for (const [name, start, channelOf] of /** @type {const} */ ([
    [NAIVE, startNaive, () => 'idle'],
    [AUDIENCE, () => startWithAudience(build), () => 'audience'],
    [LISTED, () => startOurs(build), (i) => `room-${Math.floor(i / CHANNEL_SIZE)}`],
  ])) {
    const { connected, idle } = await memoryOf(start, channelOf);
    values[connectedOf(name)] = connected / 1000;
    values[idleOf(name)] = idle / 1000;
    process.stdout.write(`    ${idleOf(name)}: ${figures(idle / 1000)}\n`);
  }
  return values;
}

/** @param {readonly Record<string, number>[]} samples */
export function report(samples) {
  const middle = (metric) => median(samples.map((values) => values[metric]));
  const rows = [NAIVE, AUDIENCE, LISTED].map((name) => {
    const idle = middle(idleOf(name));
    const targetCells = name === NAIVE ? ['', ''] : [String(TARGET_KB), idle < TARGET_KB ? 'met' : 'MISSED'];
    return [name, figures(middle(connectedOf(name))), figures(idle), ...targetCells];
  });
  return table(['kB per connection', 'just connected', 'idle', 'target', ''], rows);
}

function connectedOf(name) {
  return `${name}: just connected, kB`;
}

function idleOf(name) {
  return `${name}: idle, kB`;
}

/** Starts our server with a persistent channel in which only speakers may write. */
async function startWithAudience(build) {
  const server = await startOurs(build);
  const response = await fetch(`http://127.0.0.1:${server.port}/realtime/channels`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${server.token({ userId: randomUUID(), role: 'admin' })}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({
      name: 'audience',
      permissions: { write: ['speaker'] },
      max_subscribers: 2 * CONNECTIONS,
    }),
  });
  if (response.status === 201) return server;
  await server.stop();
  throw new VoidRun(`Creating the channel failed: ${response.status} ${await response.text()}`);
}

/**
 * Returns the bytes that each connection adds to the memory of a server that has had some connections before.
 */
async function memoryOf(start, channelOf) {
  const server = await start();
  const client = new LoadClient();
  try {
    await client.open(
      server.port,
      pathsTo(server, WARM_UP_CONNECTIONS, () => 'warm-up'),
      '',
    );
    await client.close();
    await sleep(2_000);
    const before = residentBytes(server.pid);
    const perConnection = () => (residentBytes(server.pid) - before) / CONNECTIONS;
    await client.open(server.port, pathsTo(server, CONNECTIONS, channelOf), '');
    const connected = perConnection();
    await sleep(IDLE_MS);
    await client.settle();
    return { connected, idle: perConnection() };
  } finally {
    client.stop();
    await server.stop();
  }
}

function pathsTo(server, count, channelOf) {
  return Array.from({ length: count }, (_, i) =>
    server.path(channelOf(i), { userId: randomUUID(), role: i < SPEAKERS ? 'speaker' : 'user' }),
  );
}
