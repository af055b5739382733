import { randomUUID } from 'node:crypto';
import { catchUp, connectTo, counter, joinAs, subscribe } from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';

export const summary =
  'row changes to 1,000 users behind the policy of the specification, beside judging one by one';

const MEMBERS = 1_000;
const CHANGES = 10_000;
const CHANGES_A_TRANSACTION = 100;
const ONE_BY_ONE_CHANGES = 10;
const TARGET = 2_000;

/** @param {{ rounds?: number | undefined }} options */
export async function run({ rounds = 1 }) {
  process.stdout.write(`visibility: ${MEMBERS} members, ${CHANGES} changes, ${rounds} rounds\n\n`);
  const ours = [];
  const theirs = [];
  for (let round = 0; round < rounds; round++) {
    const server = await startOurs();
    try {
      const measured = await measure(server);
      ours.push(CHANGES / measured.ours);
      theirs.push(ONE_BY_ONE_CHANGES / measured.theirs);
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
}

async function measure(server) {
  const client = await connectTo(server);
  await subscribe(server, 'bench', 'messages');
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
  for (const socket of sockets) socket.terminate();
  const theirs = await oneByOne(client, users);
  await client.end();
  return { ours, theirs };
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
