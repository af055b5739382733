import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { eventually } from '../../support/eventually.js';
import { join } from '../../support/test-client.js';
import type { Target } from './target.js';

/** A table whose policy takes half a second for each row. */
export const SLOW_TABLE = `
  CREATE TABLE slow (id int PRIMARY KEY);
  INSERT INTO slow SELECT generate_series(1, 100);
  CREATE FUNCTION takes_long() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN true; END $$;
  ALTER TABLE slow ENABLE ROW LEVEL SECURITY;
  CREATE POLICY slow_policy ON slow FOR SELECT USING (takes_long());`;

/** How long another user's subscription may take, in ms. */
const MAX_ANSWER_MS = 2_000;
/** How long the statements of closed connections may go on, in ms. */
const CANCELLED_WITHIN_MS = 2_000;

export async function enableSlowTable(target: Target): Promise<void> {
  const token = await target.token('root', 'admin');
  const { status } = await target.call('POST', '/realtime/triggers/slow', { token, body: {} });
  if (status !== 200) throw new Error(`enabling the table was answered with ${status}`);
}

/** Counts the statements that read the slow table now. */
export async function slowStatements(target: Target): Promise<number> {
  const [row] = await target.sql<{ count: number }>(
    `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'`,
  );
  return row?.count ?? 0;
}

/** Waits until no statement of a closed connection runs any more. Throws when that takes too long. */
export function expectStatementsCancelled(target: Target): Promise<void> {
  return eventually(async () => expect(await slowStatements(target)).toBe(0), CANCELLED_WITHIN_MS);
}

/** Subscribes as an honest user, again and again until the signal aborts. Throws when an answer takes too long. */
export async function subscribeMeanwhile(
  target: Target,
  signal: AbortSignal,
): Promise<{ slowestMs: number }> {
  const client = await join(target, 'honest', 'ann', { from: '127.0.0.3' });
  let slowestMs = 0;
  for (let n = 0; !signal.aborted; n++) {
    const since = performance.now();
    const payload = { table: 'notes', snapshot: n % 2 === 0, condition: `id = ${n}` };
    client.send({ type: 'subscribe', event: 'database_changes', ref: n, payload });
    const { event } = await client.next('reply', undefined, ({ ref }) => ref === n);
    client.send({ type: 'unsubscribe', event: 'database_changes', payload: {} });
    if (event !== 'ok') throw new Error('a subscription of an honest user was refused');
    slowestMs = Math.max(slowestMs, performance.now() - since);
    await delay(100, undefined, { signal }).catch(() => undefined);
  }
  await client.close();
  if (slowestMs > MAX_ANSWER_MS) throw new Error(`an honest user waited ${slowestMs} ms for a subscription`);
  return { slowestMs: Math.round(slowestMs) };
}
