#!/usr/bin/env node
// `npm run test:faults -- --seed S`: the fault tests at full length, and the page that tells what they saw.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';

const PAGE = 'docs/reliability/report.md';
const HELP = `Usage: npm run test:faults -- [--seed <n>] [--scale <n>]

Kills, stops, cuts and fills what the server depends on while rows are written and clients come and go, and holds
what every client saw against what PostgreSQL committed. Writes ${PAGE}.

  --seed <n>   Decides workload and faults (the time of day).
  --scale <n>  How many times the faults of npm test (5).`;

const { values } = parseArgs({
  options: { seed: { type: 'string' }, scale: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
});
const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
const scale = Number(values.scale ?? 5);
if (values.help || !Number.isInteger(seed) || !Number.isInteger(scale) || scale < 1) {
  process.stdout.write(`${HELP}\n`);
  process.exit(values.help ? 0 : 2);
}

/** What a test of its own checks, beside the runs with writers and clients. */
const CHECKS = [
  [
    'T02, T05',
    'the reader is killed between reading and acknowledging',
    'tests/e2e/reader-crash.e2e.test.ts',
  ],
  [
    'T09',
    'large values that an UPDATE leaves alone, with every replica identity',
    'tests/e2e/row-change-toast.e2e.test.ts',
  ],
  ['T12', 'a transaction as large as memory', 'tests/faults/large-transaction.e2e.test.ts'],
  ['T14', 'tables are altered while they are written', 'tests/e2e/row-change-ddl.e2e.test.ts'],
  [
    'T16',
    'hard values of every type, under hostile settings',
    'packages/server/src/changes/values/value-formats.pg.test.ts',
  ],
  ['T18', 'rights are revoked and given back', 'tests/e2e/ordinary-login.e2e.test.ts'],
  ['T24', 'a client that does not read', 'tests/faults/slow-client.e2e.test.ts'],
  ['T31', 'rows are written at the instant of `connected`', 'tests/faults/at-connected.e2e.test.ts'],
];

const folder = mkdtempSync(join(tmpdir(), 'goforward-faults-'));
const file = join(folder, 'findings');
writeFileSync(file, '');
const results = join(folder, 'results.json');
const reporters = ['--reporter', 'verbose', '--reporter', 'json', `--outputFile.json=${results}`];
const { status } = spawnSync(
  'npx',
  ['vitest', 'run', ...reporters, 'tests/faults', ...CHECKS.map(([, , path]) => path)],
  {
    stdio: 'inherit',
    env: {
      ...process.env,
      FAULT_SEED: String(seed),
      FAULT_SCALE: String(scale),
      FAULT_REPORT: file,
      TEST_MATRIX: 'full',
    },
  },
);
const findings = readFileSync(file, 'utf8')
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line));
const checked = JSON.parse(readFileSync(results, 'utf8')).testResults;
rmSync(folder, { recursive: true });
mkdirSync(dirname(PAGE), { recursive: true });
writeFileSync(PAGE, page(findings, checked));
process.stdout.write(`${PAGE} is written.\n`);
process.exit(status ?? 1);

function page(found, checked) {
  const rows = found.map(({ id, what, postgres, outcome }) => {
    const { violations, wrongRows, committed, received, deaths, gaps, recoveries } = outcome;
    const cells = [
      id,
      what,
      postgres === 'oldest' ? '14' : '18',
      committed,
      received,
      deaths,
      gaps,
      recoveries.length === 0 ? '' : `${(median(recoveries) / 1000).toFixed(2)} s`,
      violations.length + wrongRows,
    ];
    return `| ${cells.join(' | ')} |`;
  });
  const bad = found.flatMap(({ id, outcome }) =>
    outcome.violations.map(({ client, invariant, text }) => `- ${id}, ${client}: ${invariant} ${text}`),
  );
  const checks = CHECKS.map(([id, what, path]) => {
    const tests = checked.find(({ name }) => name.endsWith(path))?.assertionResults ?? [];
    const passed = tests.filter((test) => test.status === 'passed').length;
    return `| ${[id, what, `\`${path}\``, passed, tests.length - passed].join(' | ')} |`;
  });
  return `# What the fault tests saw

Written by \`npm run test:faults -- --seed ${seed} --scale ${scale}\`, which does it all again: on ${cpus().length} cores, Node ${process.versions.node}.

While two writers commit transactions of 1 to 1,000 rows (some rolled back, with updates and deletes), six clients of three users follow them
behind a policy, keep their position every seven changes, and come back with it. What each saw is held against what PostgreSQL's own
logical decoding tells through a slot of its own: every change of the user's rows, once, in the order of commits, unless a gap was
told before; and the rows that the client made of them against a SELECT at the end.

| | fault | PostgreSQL | transactions | changes received | clients that died | gaps told | back after (median) | wrong |
|---|---|---|---|---|---|---|---|---|
${rows.join('\n')}
${bad.length === 0 ? '' : `\n${bad.join('\n')}\n`}
These have tests of their own, which run against a PostgreSQL of each version where that matters (\`npx vitest run <file>\`):

| | fault | test | passed | failed |
|---|---|---|---|---|
${checks.join('\n')}
`;
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
}
