import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectTo, optIn } from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary = 'what writers pay for a table whose changes are followed, beside an untouched one';

const CLIENTS = [8, 32];
const SECONDS = 3;
const TARGETS = { logical: 0.95, trigger: 0.75, notify: undefined };

/** The specification's function, which notifies in each transaction. */
const NOTIFY = `
  CREATE FUNCTION plain_notify() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_notify('plain_changes', json_build_object('table', TG_TABLE_NAME, 'schema', TG_TABLE_SCHEMA, 'event', TG_OP,
      'old_record', NULL, 'new_record', row_to_json(NEW), 'timestamp', extract(epoch FROM now()))::text);
    RETURN NEW;
  END $$;
  CREATE TRIGGER notify_changes_trigger AFTER INSERT ON notify FOR EACH ROW EXECUTE FUNCTION plain_notify()`;

/** @param {{ rounds?: number | undefined }} options */
export async function run({ rounds = 3 }) {
  const pgbench = findPgbench();
  const folder = mkdtempSync(join(tmpdir(), 'goforward-bench-'));
  /** @type {string[][]} */
  const rows = [];
  try {
    for (const source of /** @type {const} */ (['logical', 'trigger'])) {
      const server = await startOurs({ env: { REALTIME_CHANGE_SOURCE: source } });
      try {
        const followed = source === 'logical' ? ['logical', 'notify'] : ['trigger'];
        await prepare(server, source);
        for (const clients of CLIENTS) {
          /** @type {Record<string, number[]>} */
          const rates = {};
          for (let round = 0; round < rounds; round++) {
            const names = ['untouched', ...followed];
            // Who is first changes with the round.
            for (let n = 0; n < names.length; n++) {
              const name = names[(n + round) % names.length] ?? '';
              rates[name] = [
                ...(rates[name] ?? []),
                rate(pgbench, server.databaseUrl, folder, name, clients),
              ];
            }
          }
          for (const name of followed) rows.push(rowOf(name, clients, rates));
        }
      } finally {
        await server.stop();
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  process.stdout.write(
    `writers: one INSERT a transaction, ${rounds} rounds of ${SECONDS} s\n\n${table(['followed by', 'clients', 'of an untouched table', 'target', '', 'transactions/s'], rows)}\n\n`,
  );
}

function rowOf(name, clients, rates) {
  const ratio = median(rates[name].map((own, n) => own / rates.untouched[n]));
  const target = TARGETS[name];
  return [
    name === 'notify' ? 'plain NOTIFY' : name,
    String(clients),
    figures(ratio),
    target === undefined ? '' : String(target),
    target === undefined ? '' : ratio >= target ? 'held' : 'MISSED',
    figures(median(rates[name])),
  ];
}

async function prepare(server, source) {
  const client = await connectTo(server);
  for (const name of ['untouched', source, 'notify'])
    await client.query(
      `CREATE TABLE ${name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid, content text, created_at timestamptz DEFAULT now())`,
    );
  await client.query(NOTIFY);
  await client.end();
  await optIn(server, source);
}

/** Transactions a second. */
function rate(pgbench, url, folder, name, clients) {
  const script = join(folder, `${name}.sql`);
  writeFileSync(
    script,
    `INSERT INTO ${name} (user_id, content) VALUES (gen_random_uuid(), 'a message of some thirty letters');\n`,
  );
  const args = ['-n', '-c', String(clients), '-j', '2', '-T', String(SECONDS), '-f', script, url];
  const { stdout, status } = spawnSync(pgbench, args, { encoding: 'utf8' });
  const found = /tps = ([\d.]+)/.exec(stdout ?? '');
  if (status !== 0 || found === null) throw new VoidRun('pgbench did not run to its end');
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
    // There is no such folder.
  }
  throw new VoidRun('pgbench is not installed (Debian: postgresql-contrib).');
}
