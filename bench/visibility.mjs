import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { logPlot } from './support/plot.mjs';
import { cpuSeconds } from './support/process-usage.mjs';
import {
  catchUp,
  changeStats,
  connectTo,
  counter,
  enableTable,
  joinAs,
  subscribe,
} from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary =
  'row changes with row level security, by tier and number of members, compared with one statement per change and member';

const MEMBERS = [100, 1_000, 10_000];
const CHANGES_PER_TRANSACTION = 100;
const ONE_BY_ONE_CHANGES = 10;
/** Changes that no member may receive. */
const UNDELIVERED_CHANGES = 5_000;
/** Members per room; a room has the id of its first member. */
const ROOM = 10;
const PLOT = fileURLToPath(new URL('./visibility.svg', import.meta.url));

/**
 * The owner policy in three tiers, where each change goes to one user, and membership of rooms of ten users.
 */
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

const ONE_BY_ONE = 'one statement per change and member, 1,000 members: changes/s';
/** The number of changes that were evaluated although no member could receive them. */
const EVALUATED = {
  unsubscribed: 'evaluated changes of a table without subscriptions',
  unmatched: 'evaluated changes of a table whose condition matches no row',
};

export const title = `${MEMBERS.join(', ')} members`;
export const rounds = 1;

/** @param {import('./support/build.mjs').Build} build */
export async function measure(build) {
  /** @type {Record<string, number>} */
  const values = {};
  for (const members of MEMBERS) {
    const server = await startOurs(build);
    try {
      const { patterns, oneByOneRate } = await measurePatterns(server, members);
      patterns.forEach(({ rate, cpu }, n) => {
        values[rateOf(PATTERNS[n].name, members)] = rate;
        values[cpuOf(PATTERNS[n].name, members)] = cpu;
      });
      if (oneByOneRate !== undefined) values[ONE_BY_ONE] = oneByOneRate;
      if (members === MEMBERS[0]) {
        const { unsubscribed, unmatched } = await countEvaluated(server);
        values[EVALUATED.unsubscribed] = unsubscribed;
        values[EVALUATED.unmatched] = unmatched;
      }
    } finally {
      await server.stop();
    }
    process.stdout.write(`    ${members} members: measured\n`);
  }
  return values;
}

/** Also writes bench/visibility.svg. @param {readonly Record<string, number>[]} samples */
export function report(samples) {
  const middle = (metric) => median(samples.map((values) => values[metric]));
  const verdict = (isMet) => (isMet ? 'met' : 'MISSED');
  const rows = MEMBERS.flatMap((members) =>
    PATTERNS.map(({ name, targets }) => {
      const rate = middle(rateOf(name, members));
      const target = targets[members];
      const held = target === undefined ? ['', ''] : [String(target), verdict(rate >= target)];
      return [name, String(members), figures(rate), figures(middle(cpuOf(name, members))), ...held];
    }),
  );
  const [indexed] = PATTERNS;
  const growth = middle(rateOf(indexed.name, 10_000)) / middle(rateOf(indexed.name, 1_000));
  const evaluated = Object.values(EVALUATED).map((metric) => {
    const most = Math.max(...samples.map((values) => values[metric]));
    return [metric, String(most), '0', verdict(most === 0)];
  });
  plot(middle);
  return [
    table(['policy', 'members', 'changes/s, WAL to sockets', 'per CPU second', 'target', ''], rows),
    table(
      ['', 'shown', 'target', ''],
      [
        [
          `${indexed.name}: changes/s at 10,000 members divided by 1,000`,
          figures(growth),
          '0.5',
          verdict(growth >= 0.5),
        ],
      ],
    ),
    `${ONE_BY_ONE}: ${figures(middle(ONE_BY_ONE))}`,
    table([`of ${UNDELIVERED_CHANGES} changes`, 'most', 'target', ''], evaluated),
    'bench/visibility.svg written.',
  ].join('\n\n');
}

/** @param {(metric: string) => number} middle */
function plot(middle) {
  const svg = logPlot({
    title: 'Server CPU per row change that one member may see (membership: ten members)',
    x: 'members',
    y: 'microseconds, from the WAL to the sockets',
    lines: PATTERNS.map(({ name }) => ({
      name,
      points: MEMBERS.map((members) => [members, 1_000_000 / middle(cpuOf(name, members))]),
    })),
  });
  writeFileSync(PLOT, svg);
}

function rateOf(name, members) {
  return `${name}, ${members} members: changes/s`;
}

function cpuOf(name, members) {
  return `${name}, ${members} members: changes per CPU second`;
}

/**
 * Measures each pattern with the same members and, with 1,000 members, one statement per change and member.
 */
async function measurePatterns(server, members) {
  const client = await connectTo(server);
  await subscribe(server, 'bench', { table: 'messages' });
  const users = Array.from({ length: members }, () => randomUUID());
  let add = () => {};
  const sockets = [];
  for (const user of users) sockets.push(await joinAs(server, 'bench', user, () => add()));
  const write = async (count, readers) => {
    for (let n = 0; n < count; n += CHANGES_PER_TRANSACTION) {
      const owners = Array.from(
        { length: Math.min(count, CHANGES_PER_TRANSACTION) },
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
  await enableTable(server, 'room_members');
  for (const { policy, changes, readers = 1 } of PATTERNS) {
    await client.query(`ALTER POLICY messages_select_policy ON messages USING (${policy})`);
    // The first change makes the server notice the changed policy.
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
  const oneByOneSeconds = members === 1_000 ? await oneByOne(client, users) : undefined;
  await client.end();
  return {
    patterns,
    oneByOneRate: oneByOneSeconds === undefined ? undefined : ONE_BY_ONE_CHANGES / oneByOneSeconds,
  };
}

/** Counts evaluated changes of a table without subscriptions, and of one whose condition matches no row. */
async function countEvaluated(server) {
  const client = await connectTo(server);
  await client.query(`
    CREATE TABLE quiet (id bigint PRIMARY KEY, room int);
    ALTER TABLE quiet ENABLE ROW LEVEL SECURITY;
    CREATE POLICY everybody ON quiet USING (true);`);
  await enableTable(server, 'quiet');
  const unsubscribed = await evaluatedDuring(server, client);
  await subscribe(server, 'quiet', { table: 'quiet', condition: 'room = -1' });
  const member = await joinAs(server, 'quiet', randomUUID(), () => {
    throw new VoidRun('a change was delivered that matches no condition');
  });
  const unmatched = await evaluatedDuring(server, client);
  member.leave();
  await client.end();
  return { unsubscribed, unmatched };
}

async function evaluatedDuring(server, client) {
  const before = await changeStats(server);
  const written = await client.query(
    `INSERT INTO quiet SELECT (SELECT count(*) FROM quiet) + n, n FROM generate_series(1, ${UNDELIVERED_CHANGES}) n`,
  );
  const wanted = before.read + written.rowCount;
  let now = before;
  // Wait until all of them are read and finished.
  while (now.read < wanted || now.lagBytes > 0) now = await changeStats(server);
  return now.evaluated - before.evaluated;
}

/**
 * Runs one statement by the row's key for each change and user, with that user's settings; returns the
 * seconds.
 */
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
    `SELECT array_agg(id) AS ids FROM (SELECT id FROM messages LIMIT ${ONE_BY_ONE_CHANGES}) AS sample`,
  );
  const started = performance.now();
  await client.query('SELECT one_by_one($1, $2)', [rows[0].ids, users]);
  return (performance.now() - started) / 1000;
}
