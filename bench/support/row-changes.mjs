import pg from 'pg';
import { WebSocket } from 'ws';
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
export async function subscribe(server, channel, table) {
  await post(server, '/realtime/channels', { name: channel });
  await post(server, `/realtime/channels/${channel}/subscribe`, { table });
}

/** @param {{ port: number, token(user: { userId: string, role: string }): string }} server @param {string} path @param {object} body */
async function post(server, path, body) {
  const token = server.token({ userId: 'root', role: 'admin' });
  const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new VoidRun(`${path} answered ${answer.status} ${await answer.text()}`);
}

/** Joins as a user; `onChange` is called for each row change with its bytes. */
export async function joinAs(server, channel, userId, onChange) {
  const url = `ws://127.0.0.1:${server.port}${server.path(channel, { userId, role: 'user' })}&presence=none`;
  const socket = new WebSocket(url, { perMessageDeflate: false, skipUTF8Validation: true });
  await new Promise((resolve, reject) => {
    socket.once('message', resolve);
    socket.once('error', reject);
  });
  socket.on('message', (bytes) => {
    if (bytes.includes('"type":"database_change"')) onChange(bytes);
  });
  return socket;
}

/** Has the server stand still while `work` writes, and measures how long it then takes until `done`, in seconds. */
export async function catchUp(server, work, done) {
  process.kill(server.pid, 'SIGSTOP');
  try {
    await work();
  } finally {
    process.kill(server.pid, 'SIGCONT');
  }
  const started = performance.now();
  await done;
  return (performance.now() - started) / 1000;
}

/** Counts to a number; `done` resolves there. */
export function counter(target) {
  let count = 0;
  let resolve;
  const done = new Promise((settle) => {
    resolve = settle;
  });
  const add = () => {
    count += 1;
    if (count === target) resolve();
  };
  return { add, done };
}
