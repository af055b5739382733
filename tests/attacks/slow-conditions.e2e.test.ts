import { setTimeout as delay } from 'node:timers/promises';
import { join, type TestClient } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import {
  enableSlowTable,
  expectStatementsCancelled,
  SLOW_TABLE,
  subscribeMeanwhile,
} from './support/slow-table.js';
import type { Target } from './support/target.js';

const SOCKETS = 11;
/** Below the limit of pending requests of a connection. */
const REQUESTS_AT_ONCE = 6;
/** How long an admin's request and `/readyz` may take, in ms. */
const MAX_ANSWER_MS = 2_000;
/** The planner matches it, with back-references: that takes longer than a check may. */
const SLOW_CONDITION = `id > 0 AND '${'a'.repeat(900)}' ~ '^(a*)(a*)(a*)(a*)\\1\\2\\3\\4b$'`;

attackTest({
  name: 'slow-conditions',
  what: 'one user asks for slow conditions and slow snapshots on 11 connections',
  schema: SLOW_TABLE,
  run: attack,
});

async function attack(target: Target, signal: AbortSignal): Promise<Counts> {
  await enableSlowTable(target);
  const token = await target.token('mallory');
  const clients = await Promise.all(
    Array.from({ length: SOCKETS }, () => join(target, 'cellar', 'mallory', { token })),
  );
  for (const client of clients) for (let n = 0; n < REQUESTS_AT_ONCE; n++) ask(client, n);
  const [honest, admin] = await Promise.all([
    subscribeMeanwhile(target, signal),
    administrateMeanwhile(target, signal),
  ]);
  for (const client of clients) client.socket.terminate();
  await expectStatementsCancelled(target);
  return {
    sockets: SOCKETS,
    honest_ms: honest.slowestMs,
    admin_ms: admin.slowestMs,
    admin_calls: admin.calls,
  };
}

/** Asks for a slow snapshot or a slow condition, in turns. */
function ask(client: TestClient, n: number): void {
  const payload =
    n % 2 === 0 ? { table: 'slow', snapshot: true } : { table: 'notes', condition: SLOW_CONDITION };
  client.send({ type: 'subscribe', event: 'database_changes', ref: n, payload });
}

/** Creates and deletes channels, and asks for the state. Throws when an answer is an error or takes too long. */
async function administrateMeanwhile(
  target: Target,
  signal: AbortSignal,
): Promise<{ slowestMs: number; calls: number }> {
  const token = await target.token('root', 'admin');
  let slowestMs = 0;
  let calls = 0;
  const call = async (method: string, path: string, body?: object) => {
    const since = performance.now();
    const answer = await target.call(method, path, { token, ...(body === undefined ? {} : { body }) });
    if (answer.status >= 300) throw new Error(`${method} ${path} was answered with ${answer.text}`);
    slowestMs = Math.max(slowestMs, performance.now() - since);
    calls += 1;
    return answer;
  };
  for (let n = 0; !signal.aborted; n++) {
    const { database } = (await call('GET', '/readyz')).body.parts;
    if (database?.status !== 'up') throw new Error(`the database is ${database?.status}`);
    await call('POST', '/realtime/channels', { name: `office-${n}` });
    await call('DELETE', `/realtime/channels/office-${n}`);
    await delay(100, undefined, { signal }).catch(() => undefined);
  }
  if (slowestMs > MAX_ANSWER_MS) throw new Error(`an admin waited ${slowestMs} ms for an answer`);
  return { slowestMs: Math.round(slowestMs), calls };
}
