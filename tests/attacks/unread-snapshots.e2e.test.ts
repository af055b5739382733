import { expect } from 'vitest';
import { eventually } from '../support/eventually.js';
import { join, type TestClient } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { IS_FULL } from './support/scale.js';
import { subscribeMeanwhile } from './support/slow-table.js';
import type { Target } from './support/target.js';

/** Each has as many sockets as a user may. */
const USERS = ['mallory', 'trudy'];
const SOCKETS = 10;
const SNAPSHOTS = 10;
const MAX_BYTES_PER_USER = 64 * 1024 * 1024;
/** How long after the attack the slow readers may take to be closed, in ms. */
const CLOSED_WITHIN_MS = 15_000;

attackTest({
  name: 'unread-snapshots',
  what: 'two users ask for 200 snapshots of 15 MB on twenty sockets and read none of them',
  schema: `
    CREATE TABLE pile (id int PRIMARY KEY, body text);
    INSERT INTO pile SELECT n, repeat('x', 1500) FROM generate_series(1, 9800) n;`,
  maxGrowthMb: 200,
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  const admin = await target.token('root', 'admin');
  const enabled = await target.call('POST', '/realtime/triggers/pile', { token: admin, body: {} });
  if (enabled.status !== 200) throw new Error('the table was not enabled');
  const honest = subscribeMeanwhile(target, signal);
  honest.catch(() => undefined);
  const clients = (await Promise.all(USERS.map((user) => openUnread(target, user)))).flat();
  let mostBytes = 0;
  let mostFiles = 0;
  await eventually(async () => expect(await metric(target, 'snapshot_files')).toBeGreaterThan(0));
  while (!signal.aborted) {
    mostBytes = Math.max(mostBytes, await metric(target, 'snapshot_file_bytes'));
    mostFiles = Math.max(mostFiles, await metric(target, 'snapshot_files'));
  }
  if (!(mostBytes > 0 && mostBytes <= USERS.length * MAX_BYTES_PER_USER))
    throw new Error(`${mostBytes} bytes of snapshots were in files`);
  // The short form ends before anybody is too slow.
  if (IS_FULL)
    await eventually(
      async () => expect(await metric(target, 'slow_consumers_total')).toBeGreaterThan(0),
      CLOSED_WITHIN_MS,
    );
  for (const client of clients) client.socket.terminate();
  await eventually(async () => expect(await metric(target, 'snapshot_files')).toBe(0));
  return {
    files: mostFiles,
    file_mb: Math.round(mostBytes / 1024 / 1024),
    slow_consumers: await metric(target, 'slow_consumers_total'),
    honest_ms: (await honest).slowestMs,
  };
}

async function openUnread(target: Target, user: string): Promise<TestClient[]> {
  const token = await target.token(user);
  const clients: TestClient[] = [];
  for (let n = 0; n < SOCKETS; n++) {
    const client = await join(target, `cellar-${user}`, user, { token });
    client.socket.pause();
    for (let ref = 0; ref < SNAPSHOTS; ref++)
      client.send({
        type: 'subscribe',
        event: 'database_changes',
        ref,
        payload: { table: 'pile', snapshot: true },
      });
    clients.push(client);
  }
  return clients;
}

async function metric(target: Target, name: string): Promise<number> {
  const { text } = await target.call('GET', '/metrics', { token: await target.token('root', 'admin') });
  return Number(new RegExp(`^realtime_${name} (\\S+)$`, 'm').exec(text)?.[1]);
}
