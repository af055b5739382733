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
/** Few, so that what connecting needs is loaded and compiled, but no heap is grown that the others would then use. */
const WARM_UP_CONNECTIONS = 20;
/** Longer than the ping interval of 30 s: every connection has been pinged once, and V8 has noticed the calm. */
const IDLE_MS = 35_000;
const TARGET_BYTES = 12_000;

/** Users who write in a channel whose members else only read. */
const SPEAKERS = 100;
const CHANNEL_SIZE = 25;

const NAIVE = 'naive ws, no authentication or presence';
const AUDIENCE = `one channel, ${SPEAKERS} users listed, the others read`;
const LISTED = `channels of ${CHANNEL_SIZE} users, every one listed`;

/** @param {{ rounds?: number | undefined }} options */
export async function run({ rounds = 1 }) {
  process.stdout.write(
    `idle-memory: ${CONNECTIONS} connections, each of its own user, ${IDLE_MS / 1000} s idle, ${rounds} rounds; resident bytes a connection\n\n`,
  );
  /** @type {Map<string, { connected: number, idle: number }[]>} */
  const results = new Map();
  for (let round = 0; round < rounds; round++) {
    for (const { name, measured } of [
      { name: NAIVE, measured: () => measure(startNaive, () => 'idle') },
      { name: AUDIENCE, measured: () => measure(startWithAudience, () => 'audience') },
      { name: LISTED, measured: () => measure(startOurs, (i) => `room-${Math.floor(i / CHANNEL_SIZE)}`) },
    ]) {
      const bytes = await measured();
      results.set(name, [...(results.get(name) ?? []), bytes]);
      process.stdout.write(`  round ${round + 1}  ${name}: ${kilobytes(bytes.idle)}\n`);
    }
  }
  const rows = [...results].map(([name, bytes]) => {
    const connected = median(bytes.map((each) => each.connected));
    const idle = median(bytes.map((each) => each.idle));
    const verdict =
      name === NAIVE ? ['', ''] : [kilobytes(TARGET_BYTES), idle < TARGET_BYTES ? 'held' : 'MISSED'];
    return [name, kilobytes(connected), kilobytes(idle), ...verdict];
  });
  process.stdout.write(`\n${table(['a connection', 'just connected', 'idle', 'target', ''], rows)}\n\n`);
}

function kilobytes(bytes) {
  return `${figures(bytes / 1000)} kB`;
}

/** Our server with a lasting channel in which only speakers write. */
async function startWithAudience() {
  const server = await startOurs();
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
  throw new VoidRun(`The channel could not be made: ${response.status} ${await response.text()}`);
}

/** Memory that the connections add to that of a server which has had some before. */
async function measure(start, channelOf) {
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
