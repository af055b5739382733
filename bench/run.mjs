#!/usr/bin/env node
// The entry of `npm run bench`: runs all benchmarks, or those that are named.
import { parseArgs } from 'node:util';
import * as changes from './changes.mjs';
import * as fanOut from './fan-out.mjs';
import * as idleMemory from './idle-memory.mjs';
import * as joining from './joining.mjs';
import { VoidRun } from './support/void-run.mjs';
import * as visibility from './visibility.mjs';
import * as writers from './writers.mjs';

const BENCHMARKS = new Map([
  ['fan-out', fanOut],
  ['idle-memory', idleMemory],
  ['changes', changes],
  ['visibility', visibility],
  ['joining', joining],
  ['writers', writers],
]);

const HELP = `Usage: npm run bench -- [<benchmark>]... [--rounds <n>]

Runs the benchmarks that are named, or all of them, one after the other:

${[...BENCHMARKS].map(([name, { summary }]) => `  ${name.padEnd(12)}  ${summary}`).join('\n')}

  --rounds <n>  Measure so many times and take medians (changes, fan-out, writers: 3, others: 1).
  --list        Only name the benchmarks.
  --help        This text.

Exits 0 when everything was measured, 1 when a run is void (something was missing or out of order) or
could not be made, 2 for a wrong call. What a benchmark measures and how: bench/README.md.`;

/** What the arguments ask for; null when they ask for nothing that there is. */
function asked(args) {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        rounds: { type: 'string' },
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
  for (const name of options.names) {
    try {
      await BENCHMARKS.get(name).run({ rounds: options.rounds });
    } catch (error) {
      const isVoid = error instanceof VoidRun;
      process.stderr.write(`\n${name} is void: ${isVoid ? error.message : (error.stack ?? error)}\n`);
      return 1;
    }
  }
  return 0;
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
process.exitCode = await main();
