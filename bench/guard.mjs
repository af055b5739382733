#!/usr/bin/env node
// The entry point of `npm run bench:guard`, part of continuous integration: fails when row changes or fan-out have become
// much more expensive than when the bounds were recorded. It compares ratios to a baseline on the same machine in the same
// minute, so that it holds on slow and shared machines.
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { countRows } from './support/bare-reader.mjs';
import { THIS_CHECKOUT } from './support/build.mjs';
import { connectMembers, measureCell } from './support/fan-out-cell.mjs';
import { verdict } from './support/guard-verdict.mjs';
import { catchUp, connectTo, counter, joinAs, subscribe } from './support/row-changes.mjs';
import { startNaive, startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

const BOUNDS = new URL('guard-bounds.json', import.meta.url);
const ROUNDS = 3;
/** Our server compiles its hot functions first, and PostgreSQL fills its caches. */
const WARM_UP_ROUNDS = 2;
const ROWS = 60_000;
const ROWS_PER_TRANSACTION = 1_000;
const SLOT = 'guard_slot';
const MEMBERS = 300;
const PER_TICK = 10;
const CPU = { warmUp: 0.4, measured: 1 };

/**
 * @typedef {{ ours: number, baseline: number }} Round
 * @type {Record<'rows' | 'deliveries', { title: string, better: 'higher' | 'lower', advice: string, measure: () => Promise<Round[]> }>}
 */
const MEASURES = {
  rows: {
    title: 'rows/s to one member, divided by rows/s of a bare reader',
    better: 'higher',
    advice:
      'Row changes have become slower: compare `npm run bench -- changes --against <commit>` with the last good commit',
    measure: measureRows,
  },
  deliveries: {
    title: `CPU per delivery, ${PER_TICK} messages per tick, divided by that of a naive ws server`,
    better: 'lower',
    advice:
      'Fan-out has become more expensive: compare `npm run bench -- fan-out --against <commit>` with the last good commit',
    measure: measureDeliveries,
  },
};

/** Measures how long our server and a bare reader take for the same rows, in turn: one is stopped while the other reads. */
async function measureRows() {
  const server = await startOurs(THIS_CHECKOUT);
  let member;
  try {
    const client = await connectTo(server);
    await client.query(
      'CREATE TABLE guard_rows (id bigint PRIMARY KEY, content text, user_id uuid, data jsonb)',
    );
    await subscribe(server, 'guard', { table: 'guard_rows' });
    let onChange = () => {};
    member = await joinAs(server, 'guard', randomUUID(), () => onChange());
    const rounds = [];
    for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
      const { add, done } = counter(ROWS);
      onChange = add;
      await client.query(`SELECT pg_create_logical_replication_slot('${SLOT}', 'pgoutput')`);
      const bare = () => countRows(server, { slot: SLOT, publication: 'realtime_publication', rows: ROWS });
      let baseline;
      const ours = await catchUp(
        server,
        async () => {
          for (let n = 0; n < ROWS; n += ROWS_PER_TRANSACTION) await insert(client, round * ROWS + n);
          if (round % 2 === 0) baseline = await bare();
        },
        done,
      );
      baseline ??= await bare();
      await dropSlot(client);
      if (round >= WARM_UP_ROUNDS) rounds.push({ ours: ROWS / ours, baseline: ROWS / baseline });
    }
    await client.end();
    return rounds;
  } finally {
    member?.leave();
    await server.stop();
  }
}

/** Drops the slot once the reader's connection is gone. */
async function dropSlot(client) {
  await client.query(
    `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '${SLOT}'`,
  );
  for (;;) {
    const { rows } = await client.query(
      `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${SLOT}' AND active_pid IS NULL`,
    );
    if (rows.length > 0) return;
  }
}

function insert(client, from) {
  return client.query(
    `INSERT INTO guard_rows (id, content, user_id, data)
     SELECT $1::bigint + n, 'a message of some thirty letters', $2::uuid, '{"likes": 3, "tags": ["a", "b"]}'
     FROM generate_series(0, ${ROWS_PER_TRANSACTION - 1}) n`,
    [from, randomUUID()],
  );
}

/** Measures what a delivery costs our server and a naive one, which alternate. */
async function measureDeliveries() {
  const candidates = [];
  try {
    for (const start of [startNaive, () => startOurs(THIS_CHECKOUT)])
      candidates.push(await connectMembers(await start(), MEMBERS));
    const rounds = [];
    for (let round = 0; round < ROUNDS; round++) {
      const order = round % 2 === 0 ? candidates : candidates.toReversed();
      const costs = new Map((await measureCell(order, PER_TICK, CPU)).map(({ name, cost }) => [name, cost]));
      rounds.push({ ours: costs.get('ours'), baseline: costs.get('naive ws') });
    }
    for (const { client } of candidates) await client.settle();
    return rounds;
  } finally {
    for (const { client, server } of candidates) {
      client.stop();
      await server.stop();
    }
  }
}

/** Returns whether all measures passed or are void. With `isRecording` it writes the medians as new bounds instead. */
async function guard(isRecording) {
  const recorded = JSON.parse(readFileSync(BOUNDS, 'utf8'));
  let isGood = true;
  for (const [name, { title, better, advice, measure }] of Object.entries(MEASURES)) {
    const { ratio: bound } = recorded[name];
    const rounds = await measure();
    const { status, ratios, limit, spread } = verdict({ better, bound, rounds });
    const all = rounds.map(({ ours, baseline }) => `${figures(ours)} of ${figures(baseline)}`).join(', ');
    process.stdout.write(
      `${title}: ${ratios.map(figures).join(' ')} (${all}); bound ${figures(bound)}, limit ${figures(limit)}: ${status}\n`,
    );
    if (status === 'void')
      process.stdout.write(
        `  The baseline's own rounds differ by ${figures(spread * 100)} %: this run says nothing about it.\n`,
      );
    if (isRecording) {
      if (status === 'void') isGood = false;
      else recorded[name].ratio = Number(median(ratios).toFixed(3));
    } else if (status === 'failed') {
      isGood = false;
      process.stdout.write(
        `  All rounds are beyond the limit. ${advice}; if the cost is meant, record it: npm run bench:guard -- --record\n`,
      );
    }
  }
  if (isRecording && isGood) writeFileSync(BOUNDS, `${JSON.stringify(recorded, null, 2)}\n`);
  if (isRecording && !isGood)
    process.stdout.write('Nothing was recorded: repeat it while the machine is quiet.\n');
  return isGood;
}

// The 'exit' handlers stop the servers.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
const { values } = parseArgs({ options: { record: { type: 'boolean', default: false } } });
if (process.platform !== 'linux') process.stdout.write('The guard reads CPU times from /proc: void.\n');
else {
  try {
    process.exitCode = (await guard(values.record)) ? 0 : 1;
  } catch (error) {
    const reason = error instanceof VoidRun ? error.message : error.stack;
    process.stderr.write(`The guard could not measure, run it again: ${reason}\n`);
    process.exitCode = 1;
  }
}
