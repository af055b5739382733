import { setTimeout as delay } from 'node:timers/promises';
import { join, type TestClient } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import type { Target } from './support/target.js';

/** Each takes longer than live changes wait for it, and less than the limit of a policy. */
const SLOW_USERS = 3;
const ROW_INTERVAL_MS = 20;
const RECONNECT_MS = 200;

const SCHEMA = `
  CREATE TABLE slow_notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
  CREATE FUNCTION take_time() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN true; END $$;
  ALTER TABLE slow_notes ENABLE ROW LEVEL SECURITY;
  CREATE POLICY slow_for_some ON slow_notes USING (
    CASE WHEN current_setting('app.current_user_id') LIKE 'mallory%' THEN (SELECT take_time()) ELSE length(body) > 0 END);`;

attackTest({
  name: 'slow-policies',
  what: 'three users whose policy takes 0.3 s follow a table that changes fifty times a second, and one of them reconnects all the time',
  schema: SCHEMA,
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  const token = await target.token('root', 'admin');
  await target.call('POST', '/realtime/channels', { token, body: { name: 'swamp' } });
  const body = { table: 'slow_notes' };
  const { status } = await target.call('POST', '/realtime/channels/swamp/subscribe', { token, body });
  if (status !== 200) throw new Error(`subscribing was answered with ${status}`);
  const clients: TestClient[] = [];
  for (let n = 0; n < SLOW_USERS; n++) clients.push(await join(target, 'swamp', `mallory${n}`));
  const counts = { rows: 0, reconnects: 0 };
  async function write(): Promise<void> {
    while (!signal.aborted) {
      await target.sql(`INSERT INTO slow_notes (body) VALUES ('x')`);
      counts.rows += 1;
      await delay(ROW_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  }
  async function reconnect(): Promise<void> {
    while (!signal.aborted) {
      const client = await join(target, 'swamp', 'mallory0');
      await delay(RECONNECT_MS, undefined, { signal }).catch(() => undefined);
      await client.close();
      counts.reconnects += 1;
    }
  }
  await Promise.all([write(), reconnect(), delayed(target)]);
  for (const client of clients) client.socket.terminate();
  return counts;
}

/** Waits until the slow members have left the live stream: the attack is one. */
async function delayed(target: Target): Promise<void> {
  for (;;) {
    const { text } = await target.call('GET', '/metrics', { token: await target.token('root', 'admin') });
    const [, count] = /^realtime_change_stream_members_delayed (\d+)$/m.exec(text) ?? [];
    if (Number(count) >= SLOW_USERS) return;
    await delay(50);
  }
}
