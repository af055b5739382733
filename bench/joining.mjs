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

/** @param {{ rounds?: number | undefined }} options */
export async function run({ rounds = 1 }) {
  process.stdout.write(`joining: ${MEMBERS} members, ${rounds} rounds\n\n`);
  const rows = [];
  for (const { name, policy } of PATTERNS) {
    /** @type {Map<string, { median: number[], most: number[] }>} */
    const phases = new Map();
    for (let round = 0; round < rounds; round++) {
      for (const [phase, waits] of await measure(policy)) {
        const known = phases.get(phase) ?? { median: [], most: [] };
        known.median.push(median(waits));
        known.most.push(Math.max(...waits));
        phases.set(phase, known);
      }
    }
    for (const [phase, waits] of phases) {
      const most = median(waits.most);
      const verdict =
        phase === 'nothing' ? ['', ''] : [String(TARGET_MS), most <= TARGET_MS ? 'held' : 'MISSED'];
      rows.push([name, phase, figures(median(waits.median)), figures(most), ...verdict]);
    }
  }
  const head = ['policy', 'while', 'ms from the INSERT to the member, middle', 'longest', 'target', ''];
  process.stdout.write(`${table(head, rows)}\n\n`);
}

/** How long each change took, in ms, by what happened meanwhile. @param {string} policy */
async function measure(policy) {
  const server = await startOurs();
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
    phases.set('nothing', await during(() => delay(QUIET_MS)));
    phases.set('10,000 join', await during(comeAll));
    phases.set(
      '10,000 leave',
      await during(() =>
        inParallel(sockets.splice(0), async (socket) => {
          socket.leave();
          await delay(LEAVE_EVERY_MS);
        }),
      ),
    );
    await comeAll();
    await delay(QUIET_MS);
    phases.set('10,000 have joined, the first change', [await write()]);
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
