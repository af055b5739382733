#!/usr/bin/env node
// `npm run test:fuzz -- --cases N --seed S`: what is sent against what a SELECT shows, in more cases than `npm test` has time for.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const HELP = `Usage: npm run test:fuzz -- [--cases <n>] [--seed <n>]

Random tables, policies, grants, claims, conditions and rows: what the server would send must be what a SELECT
as that role, with those settings, shows of each row version; also while policies, grants, memberships and claims
change, through a whole server. The first difference ends the run and is printed
with its seed, which makes it again.

  --cases <n>  Row versions times contexts (100000).
  --seed <n>   Where to begin (the time of day).`;

const { values } = parseArgs({
  options: { cases: { type: 'string' }, seed: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
});
const cases = Number(values.cases ?? 100_000);
const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
if (values.help || !Number.isInteger(cases) || cases < 1 || !Number.isInteger(seed)) {
  process.stdout.write(`${HELP}\n`);
  process.exit(values.help ? 0 : 2);
}
const { status } = spawnSync('npx', ['vitest', 'run', '--project', 'pg', '--project', 'e2e', 'tests/fuzz'], {
  stdio: 'inherit',
  env: { ...process.env, FUZZ_CASES: String(cases), FUZZ_SEED: String(seed) },
});
process.exit(status ?? 1);
