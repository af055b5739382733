import { setTimeout as delay } from 'node:timers/promises';
import { join, type TestClient } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { CHANNEL, type Target } from './support/target.js';

const USER = 'mallory';
/** Two connections keep their subscriptions; the third one replaces its own all the time. */
const CONNECTIONS = 3;
const PER_CONNECTION = 20;
const LARGE = 'a'.repeat(100_000);
const ROW_INTERVAL_MS = 1_000;

/** Patterns as long as they may be that match no row of `a`, no two of them equal. */
function patternOf(n: number): string {
  const last = `b${n}`;
  const hostile = [
    `%${'a'.repeat(85)}${last}%`,
    `${'%a'.repeat(480)}%${last}%`,
    `%${'_'.repeat(20)}${last}%`,
    `%_a_${last}%a%`,
    `%${'ab'.repeat(42)}${last}%`,
    `%${'a_'.repeat(42)}${last}%`,
  ];
  return hostile[n % hostile.length] ?? '';
}

const TOO_LONG = [
  `body LIKE '%${'a'.repeat(4_000)}b'`,
  `body LIKE '%' || '${'a'.repeat(100)}' || '${'b'.repeat(100)}'`,
  `body LIKE '%${'a'.repeat(100)}b%'`,
  `body LIKE ANY (ARRAY['x', '${'_'.repeat(2_000)}'])`,
];

attackTest({
  name: 'costly-patterns',
  what: 'one user subscribes with LIKE patterns that are as costly as they may be, replaces them all the time, and writes rows of 100 kB',
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  const counts = { subscriptions: 0, refused: 0, rows: 0 };
  const clients: TestClient[] = [];
  for (let n = 0; n < CONNECTIONS; n++) clients.push(await join(target, CHANNEL, USER));
  const [replacing, ...keeping] = clients;
  if (replacing === undefined) throw new Error('no client');
  for (const condition of TOO_LONG) {
    if (await subscribed(replacing, condition)) throw new Error('a pattern that is too long was accepted');
    counts.refused += 1;
  }
  async function subscribe(client: TestClient): Promise<void> {
    for (let n = 0; n < PER_CONNECTION && !signal.aborted; n++)
      if (await subscribed(client, `body LIKE '${patternOf(counts.subscriptions)}'`))
        counts.subscriptions += 1;
  }
  async function replace(client: TestClient): Promise<void> {
    while (!signal.aborted) {
      await subscribe(client);
      await reply(client, 'unsubscribe', {});
    }
  }
  async function write(): Promise<void> {
    while (!signal.aborted) {
      await target.sql(`INSERT INTO notes (user_id, body) VALUES ('${USER}', '${LARGE}')`);
      counts.rows += 1;
      await delay(ROW_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  }
  await Promise.all([write(), replace(replacing), ...keeping.map(subscribe)]);
  for (const client of clients) client.socket.terminate();
  if (counts.subscriptions < PER_CONNECTION) throw new Error('the attack hardly subscribed');
  return counts;
}

let refs = 0;

async function subscribed(client: TestClient, condition: string): Promise<boolean> {
  return (await reply(client, 'subscribe', { table: 'notes', condition })) === 'ok';
}

/** Sends a request about row changes; returns `ok` or `error`. */
async function reply(client: TestClient, type: string, payload: object): Promise<string> {
  const ref = `ask-${++refs}`;
  client.send({ type, event: 'database_changes', payload, ref });
  return (await client.next('reply', undefined, (message) => message.ref === ref)).event;
}
