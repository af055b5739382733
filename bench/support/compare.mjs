import { median } from './statistics.mjs';
import { figures, table } from './table.mjs';

/**
 * Measures two builds alternately: each round measures both, and the order changes with the round.
 * @param {{ measure(build: import('./build.mjs').Build, round: number): Promise<Record<string, number>> }} benchmark
 * @param {readonly [import('./build.mjs').Build, import('./build.mjs').Build]} builds
 * @param {number} rounds
 * @returns {Promise<Map<import('./build.mjs').Build, Record<string, number>[]>>} the values of each round
 */
export async function measureInTurn(benchmark, builds, rounds) {
  /** @type {Map<import('./build.mjs').Build, Record<string, number>[]>} */
  const measured = new Map(builds.map((build) => [build, []]));
  for (let round = 0; round < rounds; round++) {
    for (const build of round % 2 === 0 ? builds : builds.toReversed()) {
      process.stdout.write(`  round ${round + 1}, ${build.name}\n`);
      measured.get(build)?.push(await benchmark.measure(build, round));
    }
  }
  return measured;
}

/**
 * Returns a table with the medians of both builds and the ratio of the first to the second for each metric.
 * The ratio is the median of the rounds' ratios.
 * @param {Map<import('./build.mjs').Build, Record<string, number>[]>} measured
 */
export function comparison(measured) {
  const [[first, ours], [second, others]] = [...measured];
  const rows = Object.keys(ours[0])
    .filter((metric) => metric in others[0])
    .map((metric) => {
      const ratios = ours.map((values, round) => ratioOf(values[metric], others[round][metric]));
      return [
        metric,
        figures(median(ours.map((values) => values[metric]))),
        figures(median(others.map((values) => values[metric]))),
        figures(median(ratios)),
        ratios.map(figures).join(' '),
      ];
    });
  return table(['metric', first.name, second.name, 'ratio', 'ratio of each round'], rows);
}

/** Returns 1 for two zeros: metrics that count what must not happen are 0 for both builds. */
function ratioOf(first, second) {
  return first === second ? 1 : first / second;
}
