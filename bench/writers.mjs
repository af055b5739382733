import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectTo, enableTable } from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary = 'write throughput of a table with row changes enabled, compared with a plain table';

const CLIENTS = [8, 32];
const SECONDS = 3;
const TARGETS = { logical: 0.95, trigger: 0.75, notify: undefined };

/** The specification's trigger, which sends a NOTIFY for each row. */
const NOTIFY = `
  CREATE FUNCTION plain_notify() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_notify('plain_changes', json_build_object('table', TG_TABLE_NAME, 'schema', TG_TABLE_SCHEMA, 'event', TG_OP,
      'old_record', NULL, 'new_record', row_to_json(NEW), 'timestamp', extract(epoch FROM now()))::text);
    RETURN NEW;
  END $$;
  CREATE TRIGGER notify_changes_trigger AFTER INSERT ON notify FOR EACH ROW EXECUTE FUNCTION plain_notify()`;

const PLAIN = 'untouched';
/** The tables to write to, by the change source of the server that reads their changes. */
const FOLLOWED = /** @type {const} */ ({ logical: ['logical', 'notify'], trigger: ['trigger'] });

export const title = `one INSERT per transaction, ${SECONDS} s each`;
export const rounds = 3;

/**
 * @param {import('./support/build.mjs').Build} build
 * @param {number} round
 */
export async function measure(build, round) {
  const pgbench = findPgbench();
  const folder = mkdtempSync(join(tmpdir(), 'goforward-bench-'));
  /** @type {Record<string, number>} */
  const values = {};
  try {
    for (const [source, followed] of Object.entries(FOLLOWED)) {
      const server = await startOurs(build, { env: { REALTIME_CHANGE_SOURCE: source } });
      try {
        await prepare(server, source);
        const names = [PLAIN, ...followed];
        for (const clients of CLIENTS) {
          // The order changes with the round.
          const order = names.map((_, n) => names[(n + round) % names.length] ?? '');
          const rates = Object.fromEntries(
            order.map((name) => [name, transactionRate(pgbench, server.databaseUrl, folder, name, clients)]),
          );
          for (const name of followed) {
            values[metricOf(name, clients, 'transactions/s')] = rates[name];
            values[metricOf(name, clients, 'relative to a plain table')] = rates[name] / rates[PLAIN];
          }
        }
      } finally {
        await server.stop();
      }
      process.stdout.write(`    ${source}: measured\n`);
    }
    return values;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @param {readonly Record<string, number>[]} samples */
export function report(samples) {
  const rows = Object.values(FOLLOWED)
    .flat()
    .flatMap((name) =>
      CLIENTS.map((clients) => {
        const middle = (what) => median(samples.map((values) => values[metricOf(name, clients, what)]));
        const ratio = middle('relative to a plain table');
        const target = TARGETS[name];
        return [
          titleOf(name),
          String(clients),
          figures(ratio),
          target === undefined ? '' : String(target),
          target === undefined ? '' : ratio >= target ? 'met' : 'MISSED',
          figures(middle('transactions/s')),
        ];
      }),
    );
  return table(['method', 'clients', 'relative to a plain table', 'target', '', 'transactions/s'], rows);
}

function titleOf(name) {
  return name === 'notify' ? 'plain NOTIFY' : name;
}

function metricOf(name, clients, what) {
  return `${titleOf(name)}, ${clients} clients: ${what}`;
}

async function prepare(server, source) {
  const client = await connectTo(server);
  for (const name of [PLAIN, source, 'notify'])
    await client.query(
      `CREATE TABLE ${name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid, content text, created_at timestamptz DEFAULT now())`,
    );
  await client.query(NOTIFY);
  await client.end();
  await enableTable(server, source);
}

/** Runs pgbench and returns the transactions per second. */
function transactionRate(pgbench, url, folder, name, clients) {
  const script = join(folder, `${name}.sql`);
  writeFileSync(
    script,
    `INSERT INTO ${name} (user_id, content) VALUES (gen_random_uuid(), 'a message of some thirty letters');\n`,
  );
  const args = ['-n', '-c', String(clients), '-j', '2', '-T', String(SECONDS), '-f', script, url];
  const { stdout, status } = spawnSync(pgbench, args, { encoding: 'utf8' });
  const found = /tps = ([\d.]+)/.exec(stdout ?? '');
  if (status !== 0 || found === null) throw new VoidRun('pgbench failed');
  return Number(found[1]);
}

function findPgbench() {
  if (spawnSync('pgbench', ['--version']).status === 0) return 'pgbench';
  const root = '/usr/lib/postgresql';
  try {
    for (const version of readdirSync(root)) {
      const path = join(root, version, 'bin/pgbench');
      if (spawnSync(path, ['--version']).status === 0) return path;
    }
  } catch {
    // The folder does not exist.
  }
  throw new VoidRun('pgbench is not installed (Debian: postgresql-contrib).');
}
