import pg from 'pg';
import { RawWebSocket } from './raw-websocket.mjs';
import { VoidRun } from './void-run.mjs';

/** Connects to the server's database. @param {{ databaseUrl: string }} server */
export async function connectTo({ databaseUrl }) {
  const client = new pg.Client({ connectionString: databaseUrl });
  // When a run fails, PostgreSQL stops before this connection is closed.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Creates a channel and subscribes it to a table, which also enables the table for row changes. */
export async function subscribe(server, channel, filter) {
  await request(server, '/realtime/channels', { name: channel });
  await request(server, `/realtime/channels/${channel}/subscribe`, filter);
}

/** Enables a table for row changes without subscribing to it. */
export async function enableTable(server, table) {
  await request(server, `/realtime/triggers/${table}`, {});
}

/**
 * Sends a request as a server admin: a POST with a body, else a GET.
 * @param {{ port: number, token(user: { userId: string, role: string }): string }} server
 * @param {string} path
 * @param {object} [body]
 */
async function request(server, path, body) {
  const token = server.token({ userId: 'root', role: 'admin' });
  const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, {
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new VoidRun(`${path} failed: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** The type of a row change, which follows the id in the message. */
const CHANGE = Buffer.from('"type":"database_change"');
/** The type starts within this many bytes, because ids are shorter. */
const TYPE_WITHIN = 128;

/**
 * Joins as a user and resolves when the server has sent `connected`. `onChange` is called for each row change
 * with a function that returns its text. With a `cursor` the connection resumes there and gets the missed
 * changes.
 */
export async function joinAs(server, channel, userId, onChange, cursor) {
  const resume = cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`;
  const path = `${server.path(channel, { userId, role: 'user' })}&presence=none${resume}`;
  let connected = () => {};
  const isConnected = new Promise((resolve) => {
    connected = () => resolve(undefined);
  });
  const socket = await RawWebSocket.open(
    { port: server.port, path },
    {
      text: (bytes, start, end) => {
        if (bytes.subarray(start, Math.min(end, start + TYPE_WITHIN)).includes(CHANGE))
          onChange(() => bytes.toString('utf8', start, end));
        else connected();
      },
      fault: (text) => {
        throw new VoidRun(text);
      },
    },
  );
  await isConnected;
  return socket;
}

/**
 * Suspends the server and the PostgreSQL process that sends to it while `work` writes, then resumes both.
 * Returns the seconds from then until `done`. PostgreSQL's process is suspended too because it would fill the
 * buffers between them.
 */
export async function catchUp(server, work, done) {
  const client = await connectTo(server);
  const { rows } = await client.query(
    'SELECT active_pid FROM pg_replication_slots WHERE active_pid IS NOT NULL',
  );
  await client.end();
  const pids = [server.pid, ...rows.map((row) => row.active_pid)];
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  try {
    await work();
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGCONT');
  }
  const started = performance.now();
  await done;
  return (performance.now() - started) / 1000;
}

/** Changes that have not arrived by then count as lost. */
const COUNT_TIMEOUT_MS = 120_000;

/** Counts calls of `add`. `done` resolves at `target` and rejects after the timeout or on a call too many. */
export function counter(target) {
  let count = 0;
  let resolve;
  let reject;
  const done = new Promise((settle, fail) => {
    resolve = settle;
    reject = fail;
  });
  const timer = setTimeout(
    () => reject(new VoidRun(`only ${count} of ${target} changes arrived`)),
    COUNT_TIMEOUT_MS,
  );
  const add = () => {
    count += 1;
    if (count > target) reject(new VoidRun(`more than ${target} changes arrived`));
    if (count !== target) return;
    clearTimeout(timer);
    resolve();
  };
  return { add, done };
}

/**
 * The fields of GET /realtime/stats that benchmarks read, with all names that server versions have used for
 * them.
 */
const STATS = {
  read: ['changes_read'],
  evaluated: ['changes_evaluated', 'changes_judged'],
  lagBytes: ['lag_bytes'],
};

/**
 * Returns the server's own statistics of row changes: changes read, changes evaluated, and bytes of WAL not
 * yet finished.
 * @returns {Promise<{ read: number, evaluated: number, lagBytes: number }>}
 */
export async function changeStats(server) {
  const { database } = await request(server, '/realtime/stats');
  const entries = Object.entries(STATS).map(([name, fields]) => {
    const field = fields.find((each) => each in database);
    if (field === undefined)
      throw new VoidRun(
        `/realtime/stats has no field database.${fields.join(' or database.')}. Add its name to STATS in bench/support/row-changes.mjs.`,
      );
    return [name, database[field]];
  });
  return Object.fromEntries(entries);
}
