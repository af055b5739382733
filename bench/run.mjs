#!/usr/bin/env node
// The entry of `npm run bench`: runs all benchmarks, or those that are named; with --against, for two versions in turn.
import { parseArgs } from 'node:util';
import * as changes from './changes.mjs';
import * as fanOut from './fan-out.mjs';
import * as idleMemory from './idle-memory.mjs';
import * as joining from './joining.mjs';
import { BuildError, CommitBuild, THIS_CHECKOUT } from './support/build.mjs';
import { comparison, measureInTurn } from './support/compare.mjs';
import { VoidRun } from './support/void-run.mjs';
import * as visibility from './visibility.mjs';
import * as writers from './writers.mjs';

/**
 * What each file of a benchmark exports: `measure` makes one round with a build of the server and answers the values by
 * the names of their metrics, which say the unit; `report` holds the rounds against the targets, as text.
 * @typedef {{
 *   summary: string, title: string, rounds: number,
 *   measure(build: import('./support/build.mjs').Build, round: number): Promise<Record<string, number>>,
 *   report(rounds: readonly Record<string, number>[]): string,
 * }} Benchmark
 */

/** @type {Map<string, Benchmark>} */
const BENCHMARKS = new Map([
  ['fan-out', fanOut],
  ['idle-memory', idleMemory],
  ['changes', changes],
  ['visibility', visibility],
  ['joining', joining],
  ['writers', writers],
]);

const HELP = `Usage: npm run bench -- [<benchmark>]... [--rounds <n>] [--against <commit>]

Runs the benchmarks that are named, or all of them, one after the other:

${[...BENCHMARKS].map(([name, { summary }]) => `  ${name.padEnd(12)}  ${summary}`).join('\n')}

  --rounds <n>        Measure so many times and take medians (changes, fan-out, writers: 3, others: 1).
  --against <commit>  Build that commit in a temporary git worktree and measure it and this checkout in turn;
                      the order changes with the round. Prints both medians and the ratio for each metric.
                      Twice the time. The worktree is removed at the end.
  --list              Only name the benchmarks.
  --help              This text.

Exits 0 when everything was measured, 1 when a run is void (something was missing or out of order) or
could not be made, 2 for invalid arguments. What a benchmark measures and how: bench/README.md.`;

/** What the arguments ask for; null when they are invalid. */
function asked(args) {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        rounds: { type: 'string' },
        against: { type: 'string' },
        list: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
    if (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0)) {
      throw new Error(`--rounds takes a whole number above 0, not ${values.rounds}.`);
    }
    const unknown = positionals.find((name) => !BENCHMARKS.has(name));
    if (unknown !== undefined) {
      throw new Error(`There is no benchmark ${unknown}, only ${[...BENCHMARKS.keys()].join(', ')}.`);
    }
    return { ...values, rounds, names: positionals.length > 0 ? positionals : [...BENCHMARKS.keys()] };
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${HELP}\n`);
    return null;
  }
}

async function main() {
  const options = asked(process.argv.slice(2));
  if (options === null) return 2;
  if (options.help) {
    process.stdout.write(`${HELP}\n`);
    return 0;
  }
  if (options.list) {
    for (const [name, { summary }] of BENCHMARKS) process.stdout.write(`${name}  ${summary}\n`);
    return 0;
  }
  if (process.platform !== 'linux') {
    process.stderr.write(
      'The benchmarks read CPU and memory of processes from /proc and run on Linux only.\n',
    );
    return 1;
  }
  /** @type {CommitBuild | undefined} */
  let other;
  try {
    if (options.against !== undefined) other = new CommitBuild(options.against);
    for (const name of options.names) await measure(name, options.rounds, other?.build);
    return 0;
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return 1;
  } finally {
    other?.remove();
  }
}

/** Runs one benchmark and prints what it measured. @param {import('./support/build.mjs').Build} [other] */
async function measure(name, asked, other) {
  const benchmark = BENCHMARKS.get(name);
  const rounds = asked ?? benchmark.rounds;
  process.stdout.write(`${name}: ${benchmark.title}; ${rounds} ${rounds === 1 ? 'round' : 'rounds'}\n\n`);
  const builds = other === undefined ? [THIS_CHECKOUT] : [THIS_CHECKOUT, other];
  try {
    const measured = await measureInTurn(benchmark, builds, rounds);
    const text = other === undefined ? benchmark.report(measured.get(THIS_CHECKOUT)) : comparison(measured);
    process.stdout.write(`\n${text}\n\n`);
  } catch (error) {
    throw new Error(`${name} is void`, { cause: error });
  }
}

// The servers and the worktree are removed by the handlers of 'exit'.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
try {
  process.exitCode = await main();
} catch (error) {
  const { cause } = error;
  const reason = cause instanceof VoidRun ? cause.message : ((cause ?? error).stack ?? error);
  process.stderr.write(`\n${error.message}: ${reason}\n`);
  process.exitCode = 1;
}
