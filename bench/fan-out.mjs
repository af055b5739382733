import { randomUUID } from 'node:crypto';
import { MESSAGE_BYTES } from './support/bench-message.mjs';
import { LoadClient } from './support/load-client-process.mjs';
import { cpuSeconds } from './support/process-usage.mjs';
import { startNaive, startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';

export const summary = 'server CPU per delivered message, ours against a naive ws server';

const MEMBERS = 1_000;
/** Connections of one user: listed users, and the presence messages of their coming, are a tenth of the members. */
const CONNECTIONS_PER_USER = 10;
/** Messages per tick, and the most that ours may cost of what naive costs. */
const CELLS = [
  { perTick: 1, target: 0.85 },
  { perTick: 10, target: 1 / 8 },
  { perTick: 100, target: 1 / 30 },
];
/** CPU that a cell must have used, so that clock ticks of 10 ms do not matter. */
const CPU_SECONDS = 1.5;
const WARM_UP_CPU_SECONDS = 0.5;
/** How long the load client publishes between two looks at the CPU. */
const SLICE_MS = 200;

export const title = `${MEMBERS} members, messages of ${MESSAGE_BYTES} bytes; server CPU in µs per delivery`;
export const rounds = 3;

/**
 * One round with fresh processes: every cell, and another server first than in the round before.
 * @param {import('./support/build.mjs').Build} build
 * @param {number} round
 */
export async function measure(build, round) {
  const sides = [];
  /** @type {Record<string, number>} */
  const values = {};
  try {
    for (const start of [startNaive, () => startOurs(build)]) sides.push(await openSide(await start()));
    const order = round % 2 === 0 ? sides : [...sides].reverse();
    for (const { perTick } of CELLS) {
      for (const { name, cost, tickMs } of await measureCell(order, perTick)) {
        values[metricOf(name, perTick)] = cost;
        process.stdout.write(
          `    ${metricOf(name, perTick)}: ${figures(cost)}, median tick ${figures(median(tickMs))} ms\n`,
        );
      }
    }
    for (const { client } of sides) await client.settle();
    return values;
  } finally {
    for (const { client, server } of sides) {
      client.stop();
      await server.stop();
    }
  }
}

async function openSide(server) {
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
 * One cell: the servers take turns, a slice each, until every one has used so much CPU; whatever else the
 * machine does meets both alike.
 */
async function measureCell(sides, perTick) {
  const meters = sides.map((side) => new Meter(side, perTick));
  for (const seconds of [WARM_UP_CPU_SECONDS, CPU_SECONDS]) {
    for (const meter of meters) meter.reset();
    while (meters.some(({ cpu }) => cpu < seconds)) {
      for (const meter of meters) if (meter.cpu < seconds) await meter.slice();
    }
  }
  return meters;
}

/** What one server has used for what it delivered. */
class Meter {
  cpu = 0;
  deliveries = 0;
  /** @type {number[]} */
  tickMs = [];
  #side;
  #perTick;

  constructor(side, perTick) {
    this.#side = side;
    this.#perTick = perTick;
  }

  get name() {
    return this.#side.server.name;
  }

  /** µs of CPU for each delivery. */
  get cost() {
    return (this.cpu * 1e6) / this.deliveries;
  }

  reset() {
    this.cpu = 0;
    this.deliveries = 0;
    this.tickMs = [];
  }

  async slice() {
    const { server, client } = this.#side;
    const before = cpuSeconds(server.pid);
    const { deliveries, tickMs } = await client.publish(this.#perTick, SLICE_MS);
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
    const verdict = ratio <= target ? 'held' : 'MISSED';
    return [
      String(perTick),
      figures(median(naive)),
      figures(median(ours)),
      figures(ratio),
      figures(target),
      verdict,
      perRound,
    ];
  });
  return table(['messages a tick', 'naive ws', 'ours', 'ratio', 'target', '', 'ratio of each round'], rows);
}

function metricOf(name, perTick) {
  return `${name}, ${perTick} a tick, µs`;
}
