import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { join, type TestClient } from '../support/test-client.js';
import type { Counts } from './support/attack.js';
import { attackTest } from './support/attack-test.js';
import { CHANNEL, type Target } from './support/target.js';

/** A channel has at most a hundred members. */
const CONNECTIONS = 90;
/** With the pause, each sends twenty messages a second: within its limit. */
const USERS = 9;
const PAUSE_MS = 500;
const nested = (levels: number): unknown => JSON.parse('['.repeat(levels) + ']'.repeat(levels));
const keys = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, n]));

/** Claims that a policy, JSON or the database may not take. */
const ACCEPTED: readonly object[] = [
  { team: 'a\0b', sub: 'mallory' },
  { team: '\ud83d', 'a\0b': { '\ud83d': 1 } },
  { team: ['Łukasz', '\0', 1e308, -0], long: '{"\\'.repeat(2_000) },
  { team: nested(62) },
  keys(900),
  JSON.parse('{"__proto__":{"user_id":"victim"},"constructor":{"prototype":{}}}') as object,
];
/** Claims that are too many, too long or too deep, or name no user. */
const REFUSED: readonly object[] = [
  { sub: 'a\0b' },
  { deep: nested(64) },
  { long: 'x'.repeat(20_000) },
  keys(2_500),
];

attackTest({
  name: 'poisonous-claims',
  what: 'nine users have ten connections each with a token of its own, and refresh all of them with claims that policies cannot read',
  // The victim's policy reads claims.
  schema: `ALTER POLICY own_notes ON notes
    USING (user_id = (current_setting('request.jwt.claims', true)::jsonb ->> 'user_id'))`,
  run: poison,
});

async function poison(target: Target, signal: AbortSignal): Promise<Counts> {
  const counts = { connections: 0, refreshes: 0, refused: 0 };
  const clients: TestClient[] = [];
  for (let n = 0; n < CONNECTIONS && !signal.aborted; n++) {
    const token = await tokenOf(target, n, 0);
    clients.push(await join(target, CHANNEL, userOf(n), { token }));
  }
  counts.connections = clients.length;
  await Promise.all(clients.map((client, n) => refreshUntil(signal, target, client, n, counts)));
  for (const client of clients) client.socket.terminate();
  return counts;
}

/** Refreshes one token after the other: most are taken, and some have to be refused. */
async function refreshUntil(
  signal: AbortSignal,
  target: Target,
  client: TestClient,
  n: number,
  counts: { refreshes: number; refused: number },
): Promise<void> {
  // One after the other, as connections that began at different times do.
  await delay((n * PAUSE_MS) / CONNECTIONS, undefined, { signal }).catch(() => undefined);
  for (let round = 1; !signal.aborted; round++) {
    const isRefused = round % 4 === 0;
    const ref = `refresh-${round}`;
    const token = await tokenOf(target, n, round, isRefused ? REFUSED : ACCEPTED);
    client.send({ type: 'auth', event: 'refresh', payload: { token }, ref });
    const { event, payload } = await client.next('reply', undefined, (message) => message.ref === ref);
    // Ten connections of a user refresh as often as the rate of the user allows.
    if (payload.code === 'RATE_LIMIT_EXCEEDED') counts.refused += 1;
    else if (isRefused) expect([payload.code, payload.reason]).toEqual(['AUTH_FAILED', 'claims']);
    else expect([event, payload.code]).toEqual(['ok', undefined]);
    counts.refreshes += 1;
    counts.refused += Number(isRefused);
    await delay(PAUSE_MS, undefined, { signal }).catch(() => undefined);
  }
}

const userOf = (n: number) => `mallory-${n % USERS}`;

/** Each token has an id and times of its own, and every other one is also another viewer. */
function tokenOf(target: Target, n: number, round: number, kinds = ACCEPTED): Promise<string> {
  return target.sign({
    user_id: userOf(n),
    jti: `${n}-${round}`,
    iat: 1_700_000_000 + round,
    ...(round % 2 === 0 ? {} : { fresh: `${n}-${round}` }),
    ...kinds[(n + round) % kinds.length],
  });
}
