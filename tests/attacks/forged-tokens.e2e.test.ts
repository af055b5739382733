import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll } from 'vitest';
import { away, hanging, startIssuer } from '../support/issuer.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { attackTest } from './support/attack-test.js';
import type { Target } from './support/target.js';

/** The pause between two fetches of a key set. */
const COOL_DOWN_MS = 10_000;
/** The longest that a user whose key is known may wait to join; a fetch from an issuer that hangs takes 5 s. */
const MAX_JOIN_MS = 3_000;
const ATTACKERS = 4;
/** The pause of an attacker after two tokens: the attack is what they cause, not how many they are. */
const PAUSE_MS = 20;

const issuer = await startIssuer('one');
afterAll(() => issuer.stop());

attackTest({
  name: 'forged-tokens',
  what: 'forged tokens with ever new key ids, in handshakes and requests, while the issuer of the key set does not answer',
  settings: { REALTIME_JWT_SECRET: '', REALTIME_JWKS_URL: issuer.url },
  sign: (claims) => issuer.sign(claims, 'one'),
  run: async (target, signal) => {
    issuer.answer = hanging;
    const token = await target.token('carol');
    const [forged, joins] = await Promise.all([forge(target, signal), rejoin(target, token, signal)]);
    return { forged, joins, 'fetches without keys': await fetchesWithoutKeys() };
  },
});

/** Sends forged tokens until the signal aborts. Returns how many. */
async function forge(server: TestServer, signal: AbortSignal): Promise<number> {
  let count = 0;
  async function attack(): Promise<void> {
    while (!signal.aborted) {
      await dial(server, 'cellar', { token: forgedToken() }).closed;
      const { status } = await server.call('GET', '/realtime/stats', { token: forgedToken() });
      if (status !== 401 && status !== 429) throw new Error(`a forged token was answered by ${status}`);
      count += 2;
      await delay(PAUSE_MS);
    }
  }
  await Promise.all(Array.from({ length: ATTACKERS }, attack));
  return count;
}

/** Has a user with a valid token join and leave until the signal aborts. Returns how often. */
async function rejoin(target: Target, token: string, signal: AbortSignal): Promise<number> {
  let joins = 0;
  while (!signal.aborted) {
    const began = performance.now();
    const client = await join(target, 'cellar', 'carol', { token, from: '127.0.0.3' });
    const ms = performance.now() - began;
    if (ms > MAX_JOIN_MS) throw new Error(`a user with a valid token waited ${Math.round(ms)} ms to join`);
    await client.close();
    joins += 1;
    await delay(100);
  }
  return joins;
}

/** Sends forged tokens to a server that never had any keys. Returns how often it asks its issuer, which is away. */
async function fetchesWithoutKeys(): Promise<number> {
  const distant = await startIssuer();
  distant.answer = away;
  const server = await startTestServer({ REALTIME_JWT_SECRET: '', REALTIME_JWKS_URL: distant.url });
  try {
    const began = performance.now();
    await forge(server, AbortSignal.timeout(1_000));
    const allowed = 1 + Math.floor((performance.now() - began) / COOL_DOWN_MS);
    if (distant.fetches > allowed) throw new Error(`forged tokens caused ${distant.fetches} fetches of keys`);
    return distant.fetches;
  } finally {
    await server.stop();
    await distant.stop();
  }
}

function forgedToken(): string {
  const header = { alg: 'ES256', kid: randomBytes(8).toString('hex') };
  const parts = [header, { sub: 'mallory' }].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  );
  return [...parts, randomBytes(64).toString('base64url')].join('.');
}
