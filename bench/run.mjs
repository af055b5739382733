#!/usr/bin/env node
// The entry point of `npm run bench`: runs all benchmarks or the named ones. With --against it compares two
// versions.
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
 * The exports of a benchmark's file. `measure` runs one round with a build of the server and returns values
 * by metric name, which includes the unit. `report` returns a text that compares the rounds with the targets.
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

Runs the named benchmarks, or all of them, one after the other:

${[...BENCHMARKS].map(([name, { summary }]) => `  ${name.padEnd(12)}  ${summary}`).join('\n')}

  --rounds <n>        Number of rounds; results are medians (default: 3 for changes, fan-out and writers, else 1).
  --against <commit>  Build this commit in a temporary git worktree and measure it and this checkout alternately.
                      Prints both medians and their ratio for each metric. Takes twice the time. The worktree is
                      removed at the end.
  --list              List the benchmarks and exit.
  --help              Print this text and exit.

Exits with 0 on success, 1 when a run is void (a message was missing or out of order) or could not be started,
2 for invalid arguments. bench/README.md describes what each benchmark measures.`;

/** Returns the parsed arguments; null if they are invalid. */
function parseOptions(args) {
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
      throw new Error(`--rounds takes an integer above 0, not ${values.rounds}.`);
    }
    const unknown = positionals.find((name) => !BENCHMARKS.has(name));
    if (unknown !== undefined) {
      throw new Error(`Unknown benchmark ${unknown}. Benchmarks: ${[...BENCHMARKS.keys()].join(', ')}.`);
    }
    return { ...values, rounds, names: positionals.length > 0 ? positionals : [...BENCHMARKS.keys()] };
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${HELP}\n`);
    return null;
  }
}

async function main() {
  const options = parseOptions(process.argv.slice(2));
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

/** Runs one benchmark and prints its results. @param {import('./support/build.mjs').Build} [other] */
async function measure(name, requestedRounds, other) {
  const benchmark = BENCHMARKS.get(name);
  const rounds = requestedRounds ?? benchmark.rounds;
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

// The 'exit' handlers stop the servers and remove the worktree.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
try {
  process.exitCode = await main();
} catch (error) {
  const { cause } = error;
  const reason = cause instanceof VoidRun ? cause.message : ((cause ?? error).stack ?? error);
  process.stderr.write(`\n${error.message}: ${reason}\n`);
  process.exitCode = 1;
}
