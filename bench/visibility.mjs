import { randomUUID } from 'node:crypto';
import {
  catchUp,
  connectTo,
  counter,
  databaseStats,
  joinAs,
  optIn,
  subscribe,
} from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary =
  'row changes to 1,000 users behind the policy of the specification, beside judging one by one';

const MEMBERS = 1_000;
const CHANGES = 10_000;
const CHANGES_A_TRANSACTION = 100;
const ONE_BY_ONE_CHANGES = 10;
const TARGET = 2_000;
/** Changes that nobody is to get. */
const IDLE_CHANGES = 5_000;

/** @param {{ rounds?: number | undefined }} options */
export async function run({ rounds = 1 }) {
  process.stdout.write(`visibility: ${MEMBERS} members, ${CHANGES} changes, ${rounds} rounds\n\n`);
  const ours = [];
  const theirs = [];
  const judged = [];
  for (let round = 0; round < rounds; round++) {
    const server = await startOurs();
    try {
      const measured = await measure(server);
      ours.push(CHANGES / measured.ours);
      theirs.push(ONE_BY_ONE_CHANGES / measured.theirs);
      judged.push(await judgedForNobody(server));
    } finally {
      await server.stop();
    }
  }
  const rate = median(ours);
  const rows = [
    ['ours, WAL to sockets', figures(rate), String(TARGET), rate >= TARGET ? 'held' : 'MISSED'],
    ['one dynamic statement a subscriber and change', figures(median(theirs)), '', ''],
  ];
  process.stdout.write(`${table(['changes a second', 'median', 'target', ''], rows)}\n\n`);
  const idle = [
    ['of a table that nobody subscribes to', Math.max(...judged.map(({ unsubscribed }) => unsubscribed))],
    ['that no condition wants', Math.max(...judged.map(({ unwanted }) => unwanted))],
  ].map(([what, count]) => [what, String(count), '0', count === 0 ? 'held' : 'MISSED']);
  process.stdout.write(`${table([`judged, of ${IDLE_CHANGES} changes`, 'most', 'target', ''], idle)}\n\n`);
}

async function measure(server) {
  const client = await connectTo(server);
  await subscribe(server, 'bench', { table: 'messages' });
  const users = Array.from({ length: MEMBERS }, () => randomUUID());
  const { add, done } = counter(CHANGES);
  const sockets = [];
  for (const user of users) sockets.push(await joinAs(server, 'bench', user, add));
  const ours = await catchUp(
    server,
    async () => {
      for (let n = 0; n < CHANGES; n += CHANGES_A_TRANSACTION) {
        const owners = Array.from({ length: CHANGES_A_TRANSACTION }, (_, i) => users[(n + i) % MEMBERS]);
        await client.query(
          `INSERT INTO messages (content, user_id) SELECT 'a message of some thirty letters', u FROM unnest($1::uuid[]) u`,
          [owners],
        );
      }
    },
    done,
  );
  for (const socket of sockets) socket.leave();
  const theirs = await oneByOne(client, users);
  await client.end();
  return { ours, theirs };
}

/** How many changes were judged that nobody could get: of a table without subscriptions, and past a condition. */
async function judgedForNobody(server) {
  const client = await connectTo(server);
  await client.query(`
    CREATE TABLE quiet (id bigint PRIMARY KEY, room int);
    ALTER TABLE quiet ENABLE ROW LEVEL SECURITY;
    CREATE POLICY everybody ON quiet USING (true);`);
  await optIn(server, 'quiet');
  const unsubscribed = await judgedDuring(server, client);
  await subscribe(server, 'quiet', { table: 'quiet', condition: 'room = -1' });
  const member = await joinAs(server, 'quiet', randomUUID(), () => {
    throw new VoidRun('a change came that no condition wanted');
  });
  const unwanted = await judgedDuring(server, client);
  member.leave();
  await client.end();
  return { unsubscribed, unwanted };
}

async function judgedDuring(server, client) {
  const before = await databaseStats(server);
  const written = await client.query(
    `INSERT INTO quiet SELECT (SELECT count(*) FROM quiet) + n, n FROM generate_series(1, ${IDLE_CHANGES}) n`,
  );
  const wanted = before.changes_read + written.rowCount;
  let now = before;
  // Read, and done with: nothing is waited for any more.
  while (now.changes_read < wanted || now.lag_bytes > 0) now = await databaseStats(server);
  return now.changes_judged - before.changes_judged;
}

/** As others do it: for each change and subscriber, a statement by the row's key under that user's settings. */
async function oneByOne(client, users) {
  await client.query(`
    CREATE FUNCTION one_by_one(ids bigint[], users text[]) RETURNS int LANGUAGE plpgsql AS $$
    DECLARE seen int := 0; found bool;
    BEGIN
      PERFORM set_config('role', 'realtime_subscriber', true);
      FOR i IN 1 .. cardinality(ids) LOOP
        FOR j IN 1 .. cardinality(users) LOOP
          PERFORM set_config('app.current_user_id', users[j], true);
          EXECUTE format('SELECT true FROM public.messages WHERE id = %L::bigint', ids[i]) INTO found;
          IF found THEN seen := seen + 1; END IF;
        END LOOP;
      END LOOP;
      RETURN seen;
    END $$`);
  const { rows } = await client.query(
    `SELECT array_agg(id) AS ids FROM (SELECT id FROM messages LIMIT ${ONE_BY_ONE_CHANGES}) AS judged`,
  );
  const started = performance.now();
  await client.query('SELECT one_by_one($1, $2)', [rows[0].ids, users]);
  return (performance.now() - started) / 1000;
}
