import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { eventually } from '../support/eventually.js';
import { join, type TestClient } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { IS_FULL } from './support/scale.js';
import { subscribeMeanwhile } from './support/slow-table.js';
import type { Target } from './support/target.js';

const SOCKETS = 20;
/** Of each socket. */
const SNAPSHOTS = 10;
/** Of a user's snapshots. */
const MAX_BYTES = 64 * 1024 * 1024;
const COUNT_MS = 100;
/** How long after the attack the slow readers may take to be closed, in ms. */
const CLOSED_WITHIN_MS = 15_000;

attackTest({
  name: 'unread-snapshots',
  what: 'a user asks for 200 snapshots of 15 MB on twenty sockets and reads none of them',
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
  const clients = await openUnread(target);
  let mostBytes = 0;
  let mostFiles = 0;
  await eventually(async () => expect(await metric(target, 'snapshot_file_bytes')).toBeGreaterThan(0));
  do {
    mostBytes = Math.max(mostBytes, await metric(target, 'snapshot_file_bytes'));
    mostFiles = Math.max(mostFiles, await metric(target, 'snapshot_files'));
    await delay(COUNT_MS, undefined, { signal }).catch(() => undefined);
  } while (!signal.aborted);
  if (mostBytes > MAX_BYTES) throw new Error(`${mostBytes} bytes of snapshots were in files`);
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

async function openUnread(target: Target): Promise<TestClient[]> {
  const token = await target.token('mallory');
  const clients: TestClient[] = [];
  for (let n = 0; n < SOCKETS; n++) {
    const client = await join(target, 'cellar', 'mallory', { token });
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
