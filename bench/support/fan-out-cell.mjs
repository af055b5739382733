import { randomUUID } from 'node:crypto';
import { LoadClient } from './load-client-process.mjs';
import { cpuSeconds } from './process-usage.mjs';

/** Connections per user: the listed users, and their presence messages, are a tenth of the members. */
const CONNECTIONS_PER_USER = 10;
/** How long each server is measured before it is the other one's turn. */
const TURN_MS = 200;

/**
 * A server with its members.
 * @typedef {{ server: import('./servers.mjs').BenchServer, client: LoadClient }} Candidate
 */

/**
 * Connects members to a server; stops the server when that fails.
 * @param {import('./servers.mjs').BenchServer} server
 * @param {number} members
 * @returns {Promise<Candidate>}
 */
export async function connectMembers(server, members) {
  const client = new LoadClient();
  try {
    const users = Array.from({ length: members / CONNECTIONS_PER_USER }, () => ({
      userId: randomUUID(),
      role: 'user',
    }));
    const paths = Array.from({ length: members }, (_, i) => server.path('bench', users[i % users.length]));
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
 * @param {readonly Candidate[]} candidates
 * @param {number} perTick messages per tick
 * @param {{ warmUp: number, measured: number }} cpu seconds of CPU that each server uses
 */
export async function measureCell(candidates, perTick, { warmUp, measured }) {
  const meters = candidates.map((candidate) => new CpuMeter(candidate, perTick));
  for (const seconds of [warmUp, measured]) {
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
