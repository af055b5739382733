import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ContextIndex } from '../packages/server/dist/changes/compiling/context-index.js';
import { familyOf } from '../packages/server/dist/changes/compiling/exact-values.js';
import { ExactRow } from '../packages/server/dist/changes/compiling/predicate.js';
import { logPlot } from './support/plot.mjs';
import { cpuSeconds } from './support/process-usage.mjs';
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
  'row changes behind policies, by tier and by the number of members, beside judging one by one';

const MEMBERS = [100, 1_000, 10_000];
const CHANGES_A_TRANSACTION = 100;
const ONE_BY_ONE_CHANGES = 10;
/** Changes that nobody is to get. */
const IDLE_CHANGES = 5_000;
/** Members of a room, which has the id of the first of them. */
const ROOM = 10;
const PLOT = fileURLToPath(new URL('./visibility.svg', import.meta.url));

/** The same rows to the same users, each change to one of them, in three tiers; and membership of a room, of ten members each. */
const PATTERNS = [
  {
    name: 'owner, INDEXED',
    policy: `user_id = current_setting('app.current_user_id')::uuid`,
    changes: () => 20_000,
    targets: { 1000: 20_000 },
  },
  {
    name: 'owner, COMPILED',
    policy: `user_id IS NOT DISTINCT FROM current_setting('app.current_user_id')::uuid`,
    changes: (members) => (members > 1_000 ? 5_000 : 20_000),
    targets: {},
  },
  {
    name: 'owner, POSTGRES',
    policy: `coalesce(user_id) = current_setting('app.current_user_id')::uuid`,
    changes: (members) => (members > 1_000 ? 1_000 : 5_000),
    targets: { 1000: 3_000 },
  },
  {
    name: 'membership, INDEXED',
    policy: `user_id IN (SELECT m.room FROM room_members m WHERE m.usr = current_setting('app.current_user_id')::uuid)`,
    changes: () => 10_000,
    readers: ROOM,
    targets: { 1000: 10_000 },
  },
];

/** @param {{ rounds?: number | undefined }} options */
export async function run({ rounds = 1 }) {
  process.stdout.write(`visibility: ${MEMBERS.join(', ')} members, ${rounds} rounds\n\n`);
  const rows = [];
  const lines = PATTERNS.map(({ name }) => ({ name, points: [] }));
  const indexed = {};
  const theirs = [];
  const judged = [];
  for (const members of MEMBERS) {
    const found = PATTERNS.map(() => ({ rates: [], cpu: [] }));
    for (let round = 0; round < rounds; round++) {
      const server = await startOurs();
      try {
        const { patterns, oneByOne: slow } = await measure(server, members);
        patterns.forEach(({ rate, cpu }, n) => {
          found[n].rates.push(rate);
          found[n].cpu.push(cpu);
        });
        if (members === 1_000) theirs.push(slow);
        if (members === MEMBERS[0]) judged.push(await judgedForNobody(server));
      } finally {
        await server.stop();
      }
    }
    PATTERNS.forEach(({ name, targets }, n) => {
      const rate = median(found[n].rates);
      const cpu = median(found[n].cpu);
      const target = targets[members];
      if (n === 0) indexed[members] = rate;
      const verdict = target === undefined ? ['', ''] : [String(target), rate >= target ? 'held' : 'MISSED'];
      rows.push([name, String(members), figures(rate), figures(cpu), ...verdict]);
      lines[n].points.push([members, 1_000_000 / cpu]);
    });
  }
  const slow = median(theirs);
  process.stdout.write(
    `${table(['policy', 'members', 'changes/s, WAL to sockets', 'per CPU second of the server', 'target', ''], rows)}\n\n`,
  );
  const alone = judgeAlone(1_000);
  const ratios = [
    [
      'owner, INDEXED: 10,000 members beside 1,000',
      figures(indexed[10_000] / indexed[1_000]),
      '0.5',
      indexed[10_000] / indexed[1_000] >= 0.5,
    ],
    [
      'the judge alone beside one by one, 1,000 members',
      figures(alone / slow),
      '10000',
      alone / slow >= 10_000,
    ],
  ].map(([what, ratio, target, isHeld]) => [what, ratio, target, isHeld ? 'held' : 'MISSED']);
  process.stdout.write(`${table(['ratio', 'shown', 'target', ''], ratios)}\n\n`);
  process.stdout.write(
    `the judge alone: ${figures(alone)} changes a second; one dynamic statement a subscriber and change: ${figures(slow)}\n\n`,
  );
  const idle = [
    ['of a table that nobody subscribes to', Math.max(...judged.map(({ unsubscribed }) => unsubscribed))],
    ['that no condition wants', Math.max(...judged.map(({ unwanted }) => unwanted))],
  ].map(([what, count]) => [what, String(count), '0', count === 0 ? 'held' : 'MISSED']);
  process.stdout.write(`${table([`judged, of ${IDLE_CHANGES} changes`, 'most', 'target', ''], idle)}\n\n`);
  writeFileSync(
    PLOT,
    logPlot({
      title: 'What a row change costs that one of the members may see (of a room: ten)',
      x: 'members',
      y: 'microseconds of CPU of the server, WAL to socket',
      lines,
    }),
  );
  process.stdout.write('bench/visibility.svg is written.\n\n');
}

/** Each pattern in turn, to the same members; and, at the end, one by one. */
async function measure(server, members) {
  const client = await connectTo(server);
  await subscribe(server, 'bench', { table: 'messages' });
  const users = Array.from({ length: members }, () => randomUUID());
  let add = () => {};
  const sockets = [];
  for (const user of users) sockets.push(await joinAs(server, 'bench', user, () => add()));
  const write = async (count, readers) => {
    for (let n = 0; n < count; n += CHANGES_A_TRANSACTION) {
      const owners = Array.from(
        { length: Math.min(count, CHANGES_A_TRANSACTION) },
        (_, i) => users[((n + i) * readers) % members],
      );
      await client.query(
        `INSERT INTO messages (content, user_id) SELECT 'a message of some thirty letters', u FROM unnest($1::uuid[]) u`,
        [owners],
      );
    }
  };
  const patterns = [];
  await client.query(
    'CREATE TABLE room_members (room uuid, usr uuid, PRIMARY KEY (usr, room)); GRANT SELECT ON room_members TO realtime_subscriber',
  );
  await client.query('INSERT INTO room_members SELECT * FROM unnest($1::uuid[], $2::uuid[])', [
    users.map((_, n) => users[n - (n % ROOM)]),
    users,
  ]);
  await optIn(server, 'room_members');
  for (const { policy, changes, readers = 1 } of PATTERNS) {
    await client.query(`ALTER POLICY messages_select_policy ON messages USING (${policy})`);
    // The first change finds the policy changed.
    const first = counter(readers);
    add = first.add;
    await write(1, readers);
    await first.done;
    const count = changes(members);
    const all = counter(count * readers);
    add = all.add;
    const before = cpuSeconds(server.pid);
    const seconds = await catchUp(server, () => write(count, readers), all.done);
    patterns.push({ rate: count / seconds, cpu: count / Math.max(0.01, cpuSeconds(server.pid) - before) });
  }
  for (const socket of sockets) socket.leave();
  await client.query(`ALTER POLICY messages_select_policy ON messages USING (${PATTERNS[0].policy})`);
  const slow = members === 1_000 ? await oneByOne(client, users) : undefined;
  await client.end();
  return { patterns, oneByOne: slow === undefined ? undefined : ONE_BY_ONE_CHANGES / slow };
}

/** How many rows a second are looked up for so many contexts behind the owner policy: nothing else is done. */
function judgeAlone(members) {
  const family = familyOf('uuid');
  const index = new ContextIndex({
    kind: 'compare',
    operator: '=',
    left: { kind: 'column', place: 1, family },
    right: { kind: 'slot', slot: 0, family },
  });
  const users = Array.from({ length: members }, () => randomUUID());
  for (const user of users) index.add({}, [user]);
  const rounds = 1_000_000;
  let found = 0;
  const started = performance.now();
  for (let n = 0; n < rounds; n++)
    for (const who of index.find(new ExactRow(['1', users[n % members]]))) if (who !== undefined) found += 1;
  if (found !== rounds) throw new VoidRun('the judge has not found everybody');
  return rounds / ((performance.now() - started) / 1000);
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
