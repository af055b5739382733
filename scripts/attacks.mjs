#!/usr/bin/env node
// `npm run test:attacks`: runs the attacks in the full form, one after the other, and writes a report of what the victim
// beside each of them noticed.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const PAGE = 'docs/reliability/attacks.md';
const HELP = `Usage: npm run test:attacks -- [--seconds <n>] [name…]

Attacks a server with ordinary tokens, and without any, while a victim beside the attack pings, chats, writes rows and
calls /healthz. Prints the victim's latencies before and during each attack, and fails where one became more than five
times as long. Without names, writes ${PAGE}.

  --seconds <n>  How long each attack lasts (default: 10).`;

const { values, positionals: names } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
});
const seconds = Number(values.seconds ?? 10);
if (values.help || !Number.isInteger(seconds) || seconds < 3) {
  process.stdout.write(`${HELP}\n`);
  process.exit(values.help ? 0 : 2);
}

const folder = mkdtempSync(join(tmpdir(), 'goforward-attacks-'));
const file = join(folder, 'results');
writeFileSync(file, '');
const files = names.length === 0 ? ['tests/attacks'] : names.map((name) => `tests/attacks/${name}`);
const { status } = spawnSync('npx', ['vitest', 'run', '--no-file-parallelism', ...files], {
  stdio: 'inherit',
  env: { ...process.env, ATTACK_SECONDS: String(seconds), ATTACK_REPORT: file },
});
const results = readFileSync(file, 'utf8')
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line))
  .toSorted((a, b) => a.name.localeCompare(b.name));
rmSync(folder, { recursive: true });
process.stdout.write(`\n${table(results)}\n`);
if (names.length === 0) {
  writeFileSync(PAGE, page(results));
  process.stdout.write(`${PAGE} written.\n`);
}
process.exit(status ?? 1);

function page(found) {
  return `# Attacks

Measured on ${cpus().length} cores with Node ${process.versions.node}; server, PostgreSQL, victim and attacker share them. To repeat the run:

\`\`\`bash
npm run test:attacks -- --seconds ${seconds}
\`\`\`

## Method

- Each attack runs against a server of its own, a separate process with a heap of 512 MB and default settings, for
  ${seconds} seconds. The attacker has ordinary tokens, or none.
- A victim in a separate process, with another user and another address, pings and writes a row every 50 ms, sends a message
  every 100 ms, and calls \`/healthz\` every 200 ms. It receives the row by a policy.
- The attacker's process has the lowest priority, since a real one has a machine of its own.
- The server must not exit, log no error, and answer the victim everything exactly once. Its memory may grow by a bounded
  amount. The victim's p99 of pings and row changes may be at most five times that before the attack (below 5 ms nothing is
  compared).

\`npm test\` runs the same attacks for two seconds each and compares no latencies.

## Results

Latencies are p99, in ms: before the attack → during it. Memory is the resident memory of the server, in MB.

${table(found)}

## The attacks

| attack | what the attacker does | counted |
|---|---|---|
${found.map(({ name, what, counts }) => `| ${name} | ${what} | ${countsOf(counts)} |`).join('\n')}
`;
}

function table(found) {
  const rows = found.map(({ name, victim: { phases }, memory }) => {
    const { before, during } = phases;
    const p99 = (activity) => `${before[activity].p99} → ${during[activity].p99}`;
    const cells = [name, p99('ping'), p99('change'), p99('message'), p99('http')];
    return `| ${[...cells, `${Math.round(memory.before)} → ${Math.round(memory.peak)}`].join(' | ')} |`;
  });
  return `| attack | ping | row change | message | HTTP | memory |\n|---|---|---|---|---|---|\n${rows.join('\n')}`;
}

function countsOf(counts) {
  return Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ');
}
