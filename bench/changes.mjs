import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { catchUp, changeStats, connectTo, counter, joinAs, subscribe } from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary =
  'row changes to one member, compared with pg_recvlogical; latency from INSERT to socket; resuming';

const ROWS = 200_000;
const ROWS_PER_TRANSACTION = 1_000;
const SINGLES = 500;
/** The number of changes that the resuming member has missed. */
const MISSED = 100_000;
const RESUME_TARGET = 20_000;
const RESUME_LATENCY_TARGET = 2;
const TARGET = 0.7;
const TARGET_MS = 10;

const METRIC = {
  ours: 'rows/s',
  pgRecvlogical: 'rows/s of pg_recvlogical',
  p50: 'latency from INSERT to received change, p50, ms',
  p99: 'latency from INSERT to received change, p99, ms',
  resume: 'missed changes/s to a resuming member',
  slowdown: 'p99 latency of live changes during the resume, divided by idle',
};

export const title = `${ROWS} rows in transactions of ${ROWS_PER_TRANSACTION}`;
export const rounds = 3;

/** @param {import('./support/build.mjs').Build} build */
export async function measure(build) {
  if (spawnSync('pg_recvlogical', ['--version']).status !== 0)
    throw new VoidRun('pg_recvlogical is not installed (Debian: postgresql-client).');
  const server = await startOurs(build);
  try {
    const { ours, pgRecvlogical, latencies } = await stream(server);
    const resumed = await resume(server);
    process.stdout.write(
      `    ours ${figures(ROWS / ours)} rows/s, pg_recvlogical ${figures(ROWS / pgRecvlogical)} rows/s\n`,
    );
    return {
      [METRIC.ours]: ROWS / ours,
      [METRIC.pgRecvlogical]: ROWS / pgRecvlogical,
      [METRIC.p50]: median(latencies),
      [METRIC.p99]: p99Of(latencies),
      [METRIC.resume]: MISSED / resumed.seconds,
      [METRIC.slowdown]: resumed.busy / resumed.idle,
    };
  } finally {
    await server.stop();
  }
}

/** @param {readonly Record<string, number>[]} samples */
export function report(samples) {
  const middle = (metric) => median(samples.map((values) => values[metric]));
  const ratio = median(samples.map((values) => values[METRIC.ours] / values[METRIC.pgRecvlogical]));
  const row = (name, value, target, isMet) => [
    name,
    figures(value),
    String(target),
    isMet ? 'met' : 'MISSED',
  ];
  const [p99, resumed, slowdown] = [METRIC.p99, METRIC.resume, METRIC.slowdown].map(middle);
  return table(
    ['', 'median', 'target', ''],
    [
      row('rows/s, ours divided by pg_recvlogical', ratio, TARGET, ratio >= TARGET),
      [METRIC.p50, figures(middle(METRIC.p50)), '', ''],
      row(METRIC.p99, p99, TARGET_MS, p99 < TARGET_MS),
      row(METRIC.resume, resumed, RESUME_TARGET, resumed >= RESUME_TARGET),
      row(METRIC.slowdown, slowdown, RESUME_LATENCY_TARGET, slowdown <= RESUME_LATENCY_TARGET),
    ],
  );
}

/**
 * Returns the seconds for all rows, ours and of pg_recvlogical, and the latencies of single changes in ms.
 */
async function stream(server) {
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
      for (let n = 0; n < ROWS; n += ROWS_PER_TRANSACTION)
        await insert(client, n, ROWS_PER_TRANSACTION, user);
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
  const pgRecvlogical = (performance.now() - started) / 1000;
  await client.query(`SELECT pg_drop_replication_slot('bench_slot')`);
  await client.end();
  if (status !== 0) throw new VoidRun(`pg_recvlogical failed: ${stderr}`);
  return { ours, pgRecvlogical, latencies };
}

/**
 * Resumes a member with 100,000 missed changes, while another member gets single changes of another table.
 */
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
  for (let n = 0; n < MISSED; n += ROWS_PER_TRANSACTION)
    await insert(client, 30_000_000 + n, ROWS_PER_TRANSACTION, randomUUID());
  // Wait until all of them are delivered, so that the member has missed them.
  while ((await changeStats(server)).lagBytes > 100_000) await single();
  const { add, done } = counter(MISSED);
  const started = performance.now();
  let seconds;
  const resumed = joinAs(server, 'bench', randomUUID(), add, cursor);
  const ended = done.then(() => {
    seconds = (performance.now() - started) / 1000;
  });
  const busy = [];
  while (seconds === undefined) busy.push(await single());
  await ended;
  (await resumed).leave();
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
