import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { connectTo, joinAs, optIn, subscribe } from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary = 'how long a row change takes while 10,000 members join and leave';

const MEMBERS = 10_000;
/** Members that come or go at once. */
const AT_ONCE = 50;
/** How often a row is written for the one member that is watched, in ms. */
const EVERY_MS = 20;
/** How long each of those takes until the next one goes, in ms: all are gone within two seconds. */
const LEAVE_EVERY_MS = 10;
const QUIET_MS = 5_000;
/** A tenth of a second is what people begin to notice. */
const TARGET_MS = 100;

const PATTERNS = [
  { name: 'owner', policy: `user_id = current_setting('app.current_user_id')::uuid` },
  {
    name: 'membership',
    policy: `user_id IN (SELECT m.room FROM room_members m WHERE m.usr = current_setting('app.current_user_id')::uuid)`,
  },
];

const NOTHING = 'nothing happens';
const JOIN = '10,000 join';
const LEAVE = '10,000 leave';
const FIRST = 'the first change after 10,000 have joined';
const PHASES = [NOTHING, JOIN, LEAVE, FIRST];

export const title = `${MEMBERS} members`;
export const rounds = 1;

/** @param {import('./support/build.mjs').Build} build */
export async function measure(build) {
  /** @type {Record<string, number>} */
  const values = {};
  for (const { name, policy } of PATTERNS) {
    for (const [phase, waits] of await waitsOf(build, policy)) {
      values[metricOf(name, phase, 'median')] = median(waits);
      values[metricOf(name, phase, 'longest')] = Math.max(...waits);
    }
    process.stdout.write(`    ${name}: measured\n`);
  }
  return values;
}

/** @param {readonly Record<string, number>[]} samples */
export function report(samples) {
  const middle = (metric) => median(samples.map((values) => values[metric]));
  const rows = PATTERNS.flatMap(({ name }) =>
    PHASES.map((phase) => {
      const longest = middle(metricOf(name, phase, 'longest'));
      const verdict =
        phase === NOTHING ? ['', ''] : [String(TARGET_MS), longest <= TARGET_MS ? 'held' : 'MISSED'];
      return [name, phase, figures(middle(metricOf(name, phase, 'median'))), figures(longest), ...verdict];
    }),
  );
  return table(
    ['policy', 'while', 'ms from the INSERT to the member, median', 'longest', 'target', ''],
    rows,
  );
}

/** @param {string} name of the pattern @param {string} phase @param {'median' | 'longest'} which */
function metricOf(name, phase, which) {
  return `${name}, ${phase}: ${which}, ms`;
}

/** How long each change took, in ms, by what happened meanwhile. @param {import('./support/build.mjs').Build} build @param {string} policy */
async function waitsOf(build, policy) {
  const server = await startOurs(build);
  const client = await connectTo(server);
  try {
    await subscribe(server, 'bench', { table: 'messages' });
    const users = Array.from({ length: MEMBERS }, () => randomUUID());
    const watched = randomUUID();
    await client.query(
      `CREATE TABLE room_members (room uuid, usr uuid, PRIMARY KEY (usr, room)); GRANT SELECT ON room_members TO realtime_subscriber;
       ALTER POLICY messages_select_policy ON messages USING (${policy})`,
    );
    // Everybody in a room that has the id of its member.
    await client.query('INSERT INTO room_members SELECT u, u FROM unnest($1::uuid[]) u', [
      [...users, watched],
    ]);
    await optIn(server, 'room_members');
    /** @type {(() => void) | undefined} */
    let arrived;
    const mine = await joinAs(server, 'bench', watched, () => arrived?.());
    const write = async () => {
      const came = new Promise((resolve) => {
        arrived = () => resolve(undefined);
      });
      const started = performance.now();
      await client.query('INSERT INTO messages (content, user_id) VALUES ($1, $2)', ['x', watched]);
      await came;
      return performance.now() - started;
    };
    await write();
    /** Writes all the time until `work` is done. @param {() => Promise<unknown>} work */
    const during = async (work) => {
      let isDone = false;
      const done = work().finally(() => {
        isDone = true;
      });
      const waits = [];
      while (!isDone) {
        waits.push(await write());
        await delay(EVERY_MS);
      }
      await done;
      return waits;
    };
    const sockets = [];
    const comeAll = () =>
      inParallel(users, async (user) => {
        sockets.push(
          await joinAs(server, 'bench', user, () => {
            throw new VoidRun('a change came to somebody else');
          }),
        );
      });
    const phases = new Map();
    phases.set(NOTHING, await during(() => delay(QUIET_MS)));
    phases.set(JOIN, await during(comeAll));
    phases.set(
      LEAVE,
      await during(() =>
        inParallel(sockets.splice(0), async (socket) => {
          socket.leave();
          await delay(LEAVE_EVERY_MS);
        }),
      ),
    );
    await comeAll();
    await delay(QUIET_MS);
    phases.set(FIRST, [await write()]);
    for (const socket of [...sockets, mine]) socket.leave();
    return phases;
  } finally {
    await client.end();
    await server.stop();
  }
}

/** @template T @param {readonly T[]} items @param {(item: T) => Promise<void>} work */
async function inParallel(items, work) {
  const left = [...items];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let item = left.pop(); item !== undefined; item = left.pop()) await work(item);
    }),
  );
}
