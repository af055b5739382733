import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { catchUp, connectTo, counter, databaseStats, joinAs, subscribe } from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary = 'row changes to one member beside pg_recvlogical, and the way from commit to socket';

const ROWS = 200_000;
const ROWS_A_TRANSACTION = 1_000;
const SINGLES = 500;
/** What a member that comes back has missed. */
const MISSED = 100_000;
const RESUME_TARGET = 20_000;
const RESUME_LATENCY_TARGET = 2;
const TARGET = 0.7;
const TARGET_MS = 10;

/** @param {{ rounds?: number | undefined }} options */
export async function run({ rounds = 3 }) {
  if (spawnSync('pg_recvlogical', ['--version']).status !== 0)
    throw new VoidRun('pg_recvlogical is not installed (Debian: postgresql-client).');
  process.stdout.write(
    `changes: ${ROWS} rows in transactions of ${ROWS_A_TRANSACTION}, ${rounds} rounds\n\n`,
  );
  const ours = [];
  const theirs = [];
  let latencies = [];
  const resumes = [];
  const slowdowns = [];
  for (let round = 0; round < rounds; round++) {
    const server = await startOurs();
    try {
      const measured = await measure(server);
      ours.push(ROWS / measured.ours);
      theirs.push(ROWS / measured.theirs);
      latencies = latencies.concat(measured.latencies);
      const resumed = await resume(server);
      resumes.push(MISSED / resumed.seconds);
      slowdowns.push(resumed.busy / resumed.idle);
      process.stdout.write(
        `  round ${round + 1}  ours ${figures(ROWS / measured.ours)} rows/s, pg_recvlogical ${figures(ROWS / measured.theirs)} rows/s\n`,
      );
    } finally {
      await server.stop();
    }
  }
  const ratio = median(ours.map((rate, n) => rate / theirs[n]));
  latencies.sort((a, b) => a - b);
  const p99 = latencies[Math.floor(latencies.length * 0.99)];
  const rows = [
    [
      'rows/s, ours against pg_recvlogical',
      figures(ratio),
      String(TARGET),
      ratio >= TARGET ? 'held' : 'MISSED',
    ],
    ['INSERT sent to change received, p50, ms', figures(median(latencies)), '', ''],
    [
      'INSERT sent to change received, p99, ms',
      figures(p99),
      String(TARGET_MS),
      p99 < TARGET_MS ? 'held' : 'MISSED',
    ],
    [
      'missed changes/s to a member that comes back',
      figures(median(resumes)),
      String(RESUME_TARGET),
      median(resumes) >= RESUME_TARGET ? 'held' : 'MISSED',
    ],
    [
      'p99 of live changes meanwhile, against idle',
      figures(median(slowdowns)),
      String(RESUME_LATENCY_TARGET),
      median(slowdowns) <= RESUME_LATENCY_TARGET ? 'held' : 'MISSED',
    ],
  ];
  process.stdout.write(`\n${table(['', 'median', 'target', ''], rows)}\n\n`);
}

async function measure(server) {
  const client = await connectTo(server);
  await client.query(
    'CREATE TABLE bench_rows (id bigint PRIMARY KEY, content text, user_id uuid, created_at timestamptz DEFAULT now(), data jsonb)',
  );
  await subscribe(server, 'bench', { table: 'bench_rows' });
  const user = randomUUID();
  let onChange = () => {};
  const socket = await joinAs(server, 'bench', user, () => onChange());
  const latencies = [];
  for (let n = 0; n < SINGLES; n++) {
    const arrived = new Promise((resolve) => {
      onChange = resolve;
    });
    const started = performance.now();
    await Promise.all([arrived, insert(client, 10_000_000 + n, 1, user)]);
    await arrived;
    latencies.push(performance.now() - started);
  }
  await client.query(`SELECT pg_create_logical_replication_slot('bench_slot', 'pgoutput')`);
  const { add, done } = counter(ROWS);
  onChange = add;
  const ours = await catchUp(
    server,
    async () => {
      for (let n = 0; n < ROWS; n += ROWS_A_TRANSACTION) await insert(client, n, ROWS_A_TRANSACTION, user);
    },
    done,
  );
  socket.leave();
  const { rows } = await client.query('SELECT pg_current_wal_insert_lsn()::text AS lsn');
  await client.query('SELECT pg_logical_emit_message(true, $1, $2)', ['bench', 'end']);
  const started = performance.now();
  const { status, stderr } = spawnSync(
    'pg_recvlogical',
    [
      '-d',
      server.databaseUrl,
      '-S',
      'bench_slot',
      '--start',
      '-n',
      '-o',
      'proto_version=1',
      '-o',
      'publication_names=realtime_publication',
      `--endpos=${rows[0].lsn}`,
      '-f',
      '/dev/null',
    ],
    { encoding: 'utf8' },
  );
  const theirs = (performance.now() - started) / 1000;
  await client.query(`SELECT pg_drop_replication_slot('bench_slot')`);
  await client.end();
  if (status !== 0) throw new VoidRun(`pg_recvlogical failed: ${stderr}`);
  return { ours, theirs, latencies };
}

/** A member comes back to 100,000 changes; meanwhile single changes of another table go to another member. */
async function resume(server) {
  const client = await connectTo(server);
  await client.query('CREATE TABLE live (id bigint PRIMARY KEY)');
  await subscribe(server, 'live', { table: 'live' });
  let onLive = () => {};
  const live = await joinAs(server, 'live', randomUUID(), () => onLive());
  let next = 0;
  const single = async () => {
    const arrived = new Promise((resolve) => {
      onLive = resolve;
    });
    const started = performance.now();
    await client.query('INSERT INTO live VALUES ($1)', [next++]);
    await arrived;
    return performance.now() - started;
  };
  const idle = [];
  for (let n = 0; n < SINGLES; n++) idle.push(await single());

  let cursor;
  const first = await joinAs(server, 'bench', randomUUID(), (text) => {
    cursor ??= JSON.parse(text()).cursor;
  });
  await insert(client, 20_000_000, 1, randomUUID());
  while (cursor === undefined) await single();
  first.leave();
  for (let n = 0; n < MISSED; n += ROWS_A_TRANSACTION)
    await insert(client, 30_000_000 + n, ROWS_A_TRANSACTION, randomUUID());
  // Until the last of it was handed out, and is missed.
  while ((await databaseStats(server)).lag_bytes > 100_000) await single();
  const { add, done } = counter(MISSED);
  const started = performance.now();
  let seconds;
  const back = joinAs(server, 'bench', randomUUID(), add, cursor);
  const ended = done.then(() => {
    seconds = (performance.now() - started) / 1000;
  });
  const busy = [];
  while (seconds === undefined) busy.push(await single());
  await ended;
  (await back).leave();
  live.leave();
  await client.end();
  return { seconds, idle: p99Of(idle), busy: p99Of(busy) };
}

function p99Of(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length * 0.99)];
}

function insert(client, from, count, user) {
  return client.query(
    `INSERT INTO bench_rows (id, content, user_id, data)
     SELECT $1::bigint + n, 'a message of some thirty letters', $3::uuid, '{"likes": 3, "tags": ["a", "b"]}' FROM generate_series(0, $2::int - 1) n`,
    [from, count, user],
  );
}
