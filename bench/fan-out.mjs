import { MESSAGE_BYTES } from './support/bench-message.mjs';
import { connectMembers, measureCell } from './support/fan-out-cell.mjs';
import { startNaive, startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';

export const summary = 'server CPU per delivered message, compared with a naive ws server';

const MEMBERS = 1_000;
/** Messages per tick, and the target for our cost divided by the naive server's. */
const CELLS = [
  { perTick: 1, target: 0.85 },
  { perTick: 10, target: 1 / 8 },
  { perTick: 100, target: 1 / 30 },
];
/** Seconds of CPU that each server must use for a cell, much longer than the clock tick of 10 ms. */
const CPU = { warmUp: 0.5, measured: 1.5 };

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
      candidates.push(await connectMembers(await start(), MEMBERS));
    const order = round % 2 === 0 ? candidates : [...candidates].reverse();
    for (const { perTick } of CELLS) {
      for (const { name, cost, tickMs } of await measureCell(order, perTick, CPU)) {
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
