import { randomUUID } from 'node:crypto';
import { MESSAGE_BYTES } from './support/bench-message.mjs';
import { LoadClient } from './support/load-client-process.mjs';
import { cpuSeconds } from './support/process-usage.mjs';
import { startNaive, startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';

export const summary = 'server CPU per delivered message, compared with a naive ws server';

const MEMBERS = 1_000;
/** Connections per user: the listed users, and their presence messages, are a tenth of the members. */
const CONNECTIONS_PER_USER = 10;
/** Messages per tick, and the target for our cost divided by the naive server's. */
const CELLS = [
  { perTick: 1, target: 0.85 },
  { perTick: 10, target: 1 / 8 },
  { perTick: 100, target: 1 / 30 },
];
/** CPU that each server must use for a cell, much longer than the clock tick of 10 ms. */
const CPU_SECONDS = 1.5;
const WARM_UP_CPU_SECONDS = 0.5;
/** How long each server is measured before it is the other one's turn. */
const TURN_MS = 200;

export const title = `server CPU in µs per delivery, ${MEMBERS} members, messages of ${MESSAGE_BYTES} bytes`;
export const rounds = 3;

/**
 * Measures every cell once with new processes. The order of the servers changes with the round.
 * @param {import('./support/build.mjs').Build} build
 * @param {number} round
 */
export async function measure(build, round) {
  const candidates = [];
  /** @type {Record<string, number>} */
  const values = {};
  try {
    for (const start of [startNaive, () => startOurs(build)])
      candidates.push(await connectMembers(await start()));
    const order = round % 2 === 0 ? candidates : [...candidates].reverse();
    for (const { perTick } of CELLS) {
      for (const { name, cost, tickMs } of await measureCell(order, perTick)) {
        values[metricOf(name, perTick)] = cost;
        process.stdout.write(
          `    ${metricOf(name, perTick)}: ${figures(cost)}, median tick ${figures(median(tickMs))} ms\n`,
        );
      }
    }
    for (const { client } of candidates) await client.settle();
    return values;
  } finally {
    for (const { client, server } of candidates) {
      client.stop();
      await server.stop();
    }
  }
}

/** Connects the members to a server; stops the server when that fails. */
async function connectMembers(server) {
  const client = new LoadClient();
  try {
    const users = Array.from({ length: MEMBERS / CONNECTIONS_PER_USER }, () => ({
      userId: randomUUID(),
      role: 'user',
    }));
    const paths = Array.from({ length: MEMBERS }, (_, i) => server.path('bench', users[i % users.length]));
    await client.open(server.port, paths, users[0].userId);
    return { server, client };
  } catch (error) {
    client.stop();
    await server.stop();
    throw error;
  }
}

/**
 * Measures one cell. The servers alternate until each has used enough CPU, so that other load on the machine
 * affects both alike.
 */
async function measureCell(candidates, perTick) {
  const meters = candidates.map((candidate) => new CpuMeter(candidate, perTick));
  for (const seconds of [WARM_UP_CPU_SECONDS, CPU_SECONDS]) {
    for (const meter of meters) meter.reset();
    while (meters.some(({ cpu }) => cpu < seconds)) {
      for (const meter of meters) if (meter.cpu < seconds) await meter.measure();
    }
  }
  return meters;
}

/** Sums up one server's CPU and deliveries. */
class CpuMeter {
  cpu = 0;
  deliveries = 0;
  /** @type {number[]} */
  tickMs = [];
  #candidate;
  #perTick;

  constructor(candidate, perTick) {
    this.#candidate = candidate;
    this.#perTick = perTick;
  }

  get name() {
    return this.#candidate.server.name;
  }

  /** CPU per delivery, in µs. */
  get cost() {
    return (this.cpu * 1e6) / this.deliveries;
  }

  reset() {
    this.cpu = 0;
    this.deliveries = 0;
    this.tickMs = [];
  }

  async measure() {
    const { server, client } = this.#candidate;
    const before = cpuSeconds(server.pid);
    const { deliveries, tickMs } = await client.publish(this.#perTick, TURN_MS);
    this.cpu += cpuSeconds(server.pid) - before;
    this.deliveries += deliveries;
    this.tickMs.push(...tickMs);
  }
}

/** @param {readonly Record<string, number>[]} samples */
export function report(samples) {
  const rows = CELLS.map(({ perTick, target }) => {
    const [naive, ours] = ['naive ws', 'ours'].map((name) =>
      samples.map((values) => values[metricOf(name, perTick)]),
    );
    const ratio = median(ours) / median(naive);
    const perRound = ours.map((cost, i) => figures(cost / naive[i])).join(' ');
    const result = ratio <= target ? 'met' : 'MISSED';
    return [
      String(perTick),
      figures(median(naive)),
      figures(median(ours)),
      figures(ratio),
      figures(target),
      result,
      perRound,
    ];
  });
  return table(['messages per tick', 'naive ws', 'ours', 'ratio', 'target', '', 'ratio of each round'], rows);
}

function metricOf(name, perTick) {
  return `${name}, ${perTick} ${perTick === 1 ? 'message' : 'messages'} per tick: CPU per delivery, µs`;
}
