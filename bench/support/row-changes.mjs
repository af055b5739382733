import pg from 'pg';
import { RawWebSocket } from './raw-websocket.mjs';
import { VoidRun } from './void-run.mjs';

/** A connection to the server's database. @param {{ databaseUrl: string }} server */
export async function connectTo({ databaseUrl }) {
  const client = new pg.Client({ connectionString: databaseUrl });
  // When a run goes wrong, PostgreSQL stops before this connection does.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Makes a channel and subscribes it to a table, which that sets up. */
export async function subscribe(server, channel, filter) {
  await request(server, '/realtime/channels', { name: channel });
  await request(server, `/realtime/channels/${channel}/subscribe`, filter);
}

/** Sets a table up that nobody subscribes to. */
export async function optIn(server, table) {
  await request(server, `/realtime/triggers/${table}`, {});
}

/** As the server admin; without a body it is a GET. @param {{ port: number, token(user: { userId: string, role: string }): string }} server @param {string} path @param {object} [body] */
async function request(server, path, body) {
  const token = server.token({ userId: 'root', role: 'admin' });
  const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, {
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new VoidRun(`${path} answered ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** Every row change begins so, behind its id. */
const CHANGE = Buffer.from('"type":"database_change"');
/** Where that stands: ids are no longer. */
const HEAD = 128;

/**
 * Joins as a user and resolves when the server has said `connected`; `onChange` is called for each row change with a
 * function that gives its text. `cursor`: where it was, so that it gets what it missed.
 */
export async function joinAs(server, channel, userId, onChange, cursor) {
  const back = cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`;
  const path = `${server.path(channel, { userId, role: 'user' })}&presence=none${back}`;
  let connected = () => {};
  const isConnected = new Promise((resolve) => {
    connected = () => resolve(undefined);
  });
  const socket = await RawWebSocket.open(
    { port: server.port, path },
    {
      text: (bytes, start, end) => {
        if (bytes.subarray(start, Math.min(end, start + HEAD)).includes(CHANGE))
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
 * Has the server stand still while `work` writes, and PostgreSQL's process that sends to it, which would fill the
 * buffers between them; measures how long it then takes until `done`, in seconds.
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

/** What has not come by then does not come any more. */
const COUNT_TIMEOUT_MS = 120_000;

/** Counts to a number; `done` resolves there, and rejects when that takes too long or `add` is called once too often. */
export function counter(target) {
  let count = 0;
  let resolve;
  let reject;
  const done = new Promise((settle, fail) => {
    resolve = settle;
    reject = fail;
  });
  const timer = setTimeout(() => reject(new VoidRun(`${count} of ${target} changes came`)), COUNT_TIMEOUT_MS);
  const add = () => {
    count += 1;
    if (count > target) reject(new VoidRun(`more than ${target} changes came`));
    if (count !== target) return;
    clearTimeout(timer);
    resolve();
  };
  return { add, done };
}

/** The fields of GET /realtime/stats that benchmarks read, by every name that a version has had for them. */
const STATS = {
  read: ['changes_read'],
  evaluated: ['changes_evaluated', 'changes_judged'],
  lagBytes: ['lag_bytes'],
};

/**
 * The server's own numbers about row changes: how many it has read, for how many it has evaluated policies, and how many
 * bytes of WAL it has not finished yet.
 * @returns {Promise<{ read: number, evaluated: number, lagBytes: number }>}
 */
export async function changeStats(server) {
  const { database } = await request(server, '/realtime/stats');
  const entries = Object.entries(STATS).map(([name, fields]) => {
    const field = fields.find((each) => each in database);
    if (field === undefined)
      throw new VoidRun(
        `/realtime/stats has none of database.${fields.join(', database.')}: add its name to STATS in bench/support/row-changes.mjs`,
      );
    return [name, database[field]];
  });
  return Object.fromEntries(entries);
}
