#!/usr/bin/env node
// `npm run test:faults -- --seed S`: runs the fault tests in the full form and writes a report of their
// results.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';

const PAGE = 'docs/reliability/report.md';
const HELP = `Usage: npm run test:faults -- [--seed <n>] [--scale <n>]

Kills the server and PostgreSQL, cuts the network between them and fills the WAL while rows are written and clients
reconnect. Compares the changes that each client received with those that PostgreSQL committed. Writes
${PAGE}.

  --seed <n>   Seed of the workload and the faults (default: from the clock).
  --scale <n>  Multiplies the number of faults of npm test (default: 5).`;

const { values } = parseArgs({
  options: { seed: { type: 'string' }, scale: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
});
const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
const scale = Number(values.scale ?? 5);
if (values.help || !Number.isInteger(seed) || !Number.isInteger(scale) || scale < 1) {
  process.stdout.write(`${HELP}\n`);
  process.exit(values.help ? 0 : 2);
}

/** Faults with a test file of their own, outside the scenarios with writers and clients. */
const CHECKS = [
  [
    'T02, T05',
    'the WAL reader is killed between reading and acknowledging',
    'tests/e2e/reader-crash.e2e.test.ts',
  ],
  [
    'T09',
    'large values that an UPDATE does not change, with every replica identity',
    'tests/e2e/row-change-toast.e2e.test.ts',
  ],
  ['T12', 'a transaction of up to 1 GB, in bounded memory', 'tests/faults/large-transaction.e2e.test.ts'],
  ['T14', 'tables are altered while rows are written', 'tests/e2e/row-change-ddl.e2e.test.ts'],
  [
    'T16',
    'edge-case values of every type, under hostile settings',
    'packages/server/src/changes/values/value-formats.pg.test.ts',
  ],
  ['T18', 'privileges are revoked and granted again', 'tests/e2e/ordinary-login.e2e.test.ts'],
  ['T24', 'a client stops reading', 'tests/faults/slow-client.e2e.test.ts'],
  ['T31', 'rows are written at the moment of `connected`', 'tests/faults/at-connected.e2e.test.ts'],
];

const folder = mkdtempSync(join(tmpdir(), 'goforward-faults-'));
const file = join(folder, 'scenarioResults');
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
const scenarioResults = readFileSync(file, 'utf8')
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line));
const checked = JSON.parse(readFileSync(results, 'utf8')).testResults;
rmSync(folder, { recursive: true });
mkdirSync(dirname(PAGE), { recursive: true });
writeFileSync(PAGE, page(scenarioResults, checked));
process.stdout.write(`${PAGE} written.\n`);
process.exit(status ?? 1);

function page(found, checked) {
  const rows = found.map(({ id, what, postgres, outcome }) => {
    const { violations, wrongRows, committed, received, disconnects, gaps, recoveries } = outcome;
    const cells = [
      id,
      what,
      postgres === 'oldest' ? '14' : '18',
      committed,
      received,
      disconnects,
      gaps,
      recoveries.length === 0 ? '' : `${(median(recoveries) / 1000).toFixed(2)} s`,
      violations.length + wrongRows,
    ];
    return `| ${cells.join(' | ')} |`;
  });
  const violationLines = found.flatMap(({ id, outcome }) =>
    outcome.violations.map(({ client, invariant, text }) => `- ${id}, ${client}: ${invariant} ${text}`),
  );
  const checks = CHECKS.map(([id, what, path]) => {
    const tests = checked.find(({ name }) => name.endsWith(path))?.assertionResults ?? [];
    const passed = tests.filter((test) => test.status === 'passed').length;
    return `| ${[id, what, `\`${path}\``, passed, tests.length - passed].join(' | ')} |`;
  });
  return `# Fault test report

Measured on ${cpus().length} cores with Node ${process.versions.node}. To repeat the run:

\`\`\`bash
npm run test:faults -- --seed ${seed} --scale ${scale}
\`\`\`

## Method

- Two writers commit transactions of 1 to 1,000 rows, with updates and deletes. Some transactions are rolled back.
- Six clients of three users subscribe behind a row level security policy. Each client stores its cursor every seven
  changes and resumes with it after a disconnect.
- A replication slot of the tests' own records what PostgreSQL committed. Every client must have received every change of
  its user's rows once, in commit order. A gap message excuses the changes missing after it.
- Each client builds a copy of the table from the changes. At the end this copy must equal a SELECT, unless the client got
  a gap message.

"Violations" counts every deviation.

## Results

| | fault | PostgreSQL | transactions | changes received | disconnects by clients | gap messages | reconnected after (median) | violations |
|---|---|---|---|---|---|---|---|---|
${rows.join('\n')}
${violationLines.length === 0 ? '' : `\n${violationLines.join('\n')}\n`}
## Faults with a test file of their own

They run against both PostgreSQL versions where the version matters. To run one: \`npx vitest run <file>\`.

| | fault | test | passed | failed |
|---|---|---|---|---|
${checks.join('\n')}
`;
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
}
