import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { connectTo, enableTable, joinAs, subscribe } from './support/row-changes.mjs';
import { startOurs } from './support/servers.mjs';
import { median } from './support/statistics.mjs';
import { figures, table } from './support/table.mjs';
import { VoidRun } from './support/void-run.mjs';

export const summary = 'how long a row change takes while 10,000 members join and leave';

const MEMBERS = 10_000;
/** Members that join or leave concurrently. */
const AT_ONCE = 50;
/** The interval between two rows for the observed member, in ms. */
const EVERY_MS = 20;
/** The delay after each leaving member, in ms: all members leave within two seconds. */
const LEAVE_EVERY_MS = 10;
const QUIET_MS = 5_000;
/** People start to notice a delay of a tenth of a second. */
const TARGET_MS = 100;

const PATTERNS = [
  { name: 'owner', policy: `user_id = current_setting('app.current_user_id')::uuid` },
  {
    name: 'membership',
    policy: `user_id IN (SELECT m.room FROM room_members m WHERE m.usr = current_setting('app.current_user_id')::uuid)`,
  },
];

const IDLE = 'idle';
const JOIN = '10,000 members join';
const LEAVE = '10,000 members leave';
const FIRST = 'first change after 10,000 members joined';
const PHASES = [IDLE, JOIN, LEAVE, FIRST];

export const title = `${MEMBERS} members`;
export const rounds = 1;

/** @param {import('./support/build.mjs').Build} build */
export async function measure(build) {
  /** @type {Record<string, number>} */
  const values = {};
  for (const { name, policy } of PATTERNS) {
    for (const [phase, latencies] of await measureLatencies(build, policy)) {
      values[metricOf(name, phase, 'median')] = median(latencies);
      values[metricOf(name, phase, 'longest')] = Math.max(...latencies);
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
      const targetCells =
        phase === IDLE ? ['', ''] : [String(TARGET_MS), longest <= TARGET_MS ? 'met' : 'MISSED'];
      return [
        name,
        phase,
        figures(middle(metricOf(name, phase, 'median'))),
        figures(longest),
        ...targetCells,
      ];
    }),
  );
  return table(
    ['policy', 'phase', 'latency from INSERT to member, median, ms', 'longest', 'target', ''],
    rows,
  );
}

/** @param {string} name of the pattern @param {string} phase @param {'median' | 'longest'} which */
function metricOf(name, phase, which) {
  return `${name}, ${phase}: ${which}, ms`;
}

/**
 * Returns the latency of each change in ms, by phase.
 * @param {import('./support/build.mjs').Build} build
 * @param {string} policy
 */
async function measureLatencies(build, policy) {
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
    // Each user is the only member of a room with the same id.
    await client.query('INSERT INTO room_members SELECT u, u FROM unnest($1::uuid[]) u', [
      [...users, watched],
    ]);
    await enableTable(server, 'room_members');
    /** @type {(() => void) | undefined} */
    let arrived;
    const mine = await joinAs(server, 'bench', watched, () => arrived?.());
    const write = async () => {
      const received = new Promise((resolve) => {
        arrived = () => resolve(undefined);
      });
      const started = performance.now();
      await client.query('INSERT INTO messages (content, user_id) VALUES ($1, $2)', ['x', watched]);
      await received;
      return performance.now() - started;
    };
    await write();
    /** Writes rows at the interval until `work` is done. @param {() => Promise<unknown>} work */
    const during = async (work) => {
      let isDone = false;
      const done = work().finally(() => {
        isDone = true;
      });
      const latencies = [];
      while (!isDone) {
        latencies.push(await write());
        await delay(EVERY_MS);
      }
      await done;
      return latencies;
    };
    const sockets = [];
    const joinAll = () =>
      concurrently(users, async (user) => {
        sockets.push(
          await joinAs(server, 'bench', user, () => {
            throw new VoidRun('a change was delivered to the wrong member');
          }),
        );
      });
    const phases = new Map();
    phases.set(IDLE, await during(() => delay(QUIET_MS)));
    phases.set(JOIN, await during(joinAll));
    phases.set(
      LEAVE,
      await during(() =>
        concurrently(sockets.splice(0), async (socket) => {
          socket.leave();
          await delay(LEAVE_EVERY_MS);
        }),
      ),
    );
    await joinAll();
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
async function concurrently(items, work) {
  const left = [...items];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let item = left.pop(); item !== undefined; item = left.pop()) await work(item);
    }),
  );
}
