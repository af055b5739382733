#!/usr/bin/env node
// `npm run test:fuzz -- --cases N --seed S`: runs the fuzz tests with more cases than `npm test` has time
// for.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const HELP = `Usage: npm run test:fuzz -- [--cases <n>] [--seed <n>]

Generates random tables, policies, grants, claims, conditions and rows. For each row version, the server must deliver
exactly the rows that a SELECT with the same role and settings shows. A whole server is also tested while policies,
grants, memberships and claims change. Conditions that raise errors must be evaluated on rows alone that somebody sees
who has them, and whatever a condition may have is tested on values of 1 MB. The run stops at the first difference and prints its seed, to repeat it.

  --cases <n>  Number of row versions times viewers (default: 100000).
  --seed <n>   The first seed (default: from the clock).`;

const { values } = parseArgs({
  options: { cases: { type: 'string' }, seed: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
});
const cases = Number(values.cases ?? 100_000);
const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
if (values.help || !Number.isInteger(cases) || cases < 1 || !Number.isInteger(seed)) {
  process.stdout.write(`${HELP}\n`);
  process.exit(values.help ? 0 : 2);
}
const { status } = spawnSync(
  'npx',
  ['vitest', 'run', '--project', 'pg', '--project', 'e2e', 'tests/fuzz', 'bounded-conditions'],
  {
    stdio: 'inherit',
    env: { ...process.env, FUZZ_CASES: String(cases), FUZZ_SEED: String(seed) },
  },
);
process.exit(status ?? 1);
