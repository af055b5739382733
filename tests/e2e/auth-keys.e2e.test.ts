import { exportJWK, exportSPKI, type GenerateKeyPairResult, generateKeyPair } from 'jose';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { away, hanging, type Issuer, json, startIssuer } from '../support/issuer.js';
import { dial, join } from '../support/test-client.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { signClaims } from '../support/tokens.js';

const SECRET = 'the secret of the tests of keys, long enough for HS512';
const CLAIMS = { sub: 'ada', role: 'admin' };

let rsa: GenerateKeyPairResult;
let ec: GenerateKeyPairResult;
let other: GenerateKeyPairResult;
beforeAll(async () => {
  [rsa, ec, other] = await Promise.all([
    generateKeyPair('RS256', { extractable: true }),
    generateKeyPair('ES256', { extractable: true }),
    generateKeyPair('RS256', { extractable: true }),
  ]);
});

let server: TestServer | undefined;
afterEach(async () => {
  await server?.stop();
  server = undefined;
});

/** Starts a server with other keys than the default secret. An empty variable counts as not set. */
async function start(env: Readonly<Record<string, string>>): Promise<TestServer> {
  server = await startTestServer({ REALTIME_JWT_SECRET: '', ...env });
  return server;
}

const statusOf = async (at: TestServer, token: string) =>
  (await at.call('GET', '/realtime/stats', { token })).status;

test.each(['RS256', 'ES256'] as const)(
  'a server with a public key accepts %s tokens of that key, over WebSocket too, and refuses all others',
  async (alg) => {
    const [own, foreign] = alg === 'RS256' ? [rsa, ec] : [ec, rsa];
    const pem = await exportSPKI(own.publicKey);
    const at = await start({ REALTIME_JWT_PUBLIC_KEY: pem.replaceAll('\n', '\\n') });
    const token = await signClaims(CLAIMS, own.privateKey, { alg });
    expect(await statusOf(at, token)).toBe(200);
    await (await join(at, 'room', 'ada', { token })).close();
    const foreignAlg = alg === 'RS256' ? 'ES256' : 'RS256';
    expect(await statusOf(at, await signClaims(CLAIMS, foreign.privateKey, { alg: foreignAlg }))).toBe(401);
    // The public key must not work as a shared secret: everyone may know it.
    for (const text of [pem, pem.trim()])
      expect(await statusOf(at, await signClaims(CLAIMS, text))).toBe(401);
    expect(() => at.token('ada')).toThrow('does not sign');
  },
);

test('REALTIME_JWT_ALGORITHMS restricts the accepted algorithms', async () => {
  const at = await start({ REALTIME_JWT_SECRET: SECRET, REALTIME_JWT_ALGORITHMS: 'HS512' });
  expect(await statusOf(at, await signClaims(CLAIMS, SECRET, { alg: 'HS512' }))).toBe(200);
  expect(await statusOf(at, await signClaims(CLAIMS, SECRET))).toBe(401);
  expect(await statusOf(at, await at.token('ada', 'admin'))).toBe(200);
});

test('by default, all algorithms that fit the key are accepted', async () => {
  const at = await start({ REALTIME_JWT_SECRET: SECRET });
  for (const alg of ['HS256', 'HS384', 'HS512']) {
    expect(await statusOf(at, await signClaims(CLAIMS, SECRET, { alg }))).toBe(200);
  }
});

test('the server does not start with an algorithm that does not fit the key', async () => {
  await expect(start({ REALTIME_JWT_SECRET: SECRET, REALTIME_JWT_ALGORITHMS: 'RS256' })).rejects.toThrow(
    'RS256 does not fit the configured key',
  );
});

test('a configured issuer and audience are required, and the tokens that the server signs carry them', async () => {
  const at = await start({
    REALTIME_JWT_SECRET: SECRET,
    REALTIME_JWT_ISSUER: 'https://issuer.example',
    REALTIME_JWT_AUDIENCE: 'realtime',
  });
  for (const [iss, aud, status] of [
    ['https://issuer.example', 'realtime', 200],
    ['https://issuer.example', ['other', 'realtime'], 200],
    ['https://issuer.example', 'other', 401],
    ['https://other.example', 'realtime', 401],
    [undefined, 'realtime', 401],
    ['https://issuer.example', undefined, 401],
  ] as const) {
    const claims = {
      ...CLAIMS,
      ...(iss && { iss }),
      ...(aud && { aud: typeof aud === 'string' ? aud : [...aud] }),
    };
    expect([iss, aud, await statusOf(at, await signClaims(claims, SECRET))]).toEqual([iss, aud, status]);
  }
  expect(await statusOf(at, await at.token('ada', 'admin'))).toBe(200);
});

describe('with a JWKS URL', () => {
  let issuer: Issuer;
  beforeAll(async () => {
    issuer = await startIssuer();
  });
  afterAll(() => issuer.stop());
  beforeEach(async () => {
    issuer.answer = json({
      keys: [
        { ...(await exportJWK(rsa.publicKey)), kid: 'rsa-1', alg: 'RS256', use: 'sig' },
        { ...(await exportJWK(ec.publicKey)), kid: 'ec-1', alg: 'ES256', use: 'sig' },
      ],
    });
  });

  test('a token is verified with the key that it names, and the key set is fetched once', async () => {
    const at = await start({ REALTIME_JWKS_URL: issuer.url });
    const before = issuer.fetches;
    const good = await signClaims(CLAIMS, rsa.privateKey, { alg: 'RS256', kid: 'rsa-1' });
    const alsoGood = await signClaims(CLAIMS, ec.privateKey, { alg: 'ES256', kid: 'ec-1' });
    const unknown = await signClaims(CLAIMS, other.privateKey, { alg: 'RS256', kid: 'rsa-9' });
    const forged = await signClaims(CLAIMS, other.privateKey, { alg: 'RS256', kid: 'rsa-1' });
    for (const token of [good, alsoGood]) expect(await statusOf(at, token)).toBe(200);
    for (const token of [unknown, forged]) expect(await statusOf(at, token)).toBe(401);
    expect(issuer.fetches - before).toBe(1);
    await (await join(at, 'room', 'ada', { token: good })).close();
  });

  test('tokens are refused while its host does not answer, with one fetch for all, and the error says when to retry', async () => {
    issuer.answer = away;
    const at = await start({ REALTIME_JWKS_URL: issuer.url });
    const before = issuer.fetches;
    const token = await signClaims(CLAIMS, rsa.privateKey, { alg: 'RS256', kid: 'rsa-1' });
    const answer = await at.call('GET', '/realtime/stats', { token });
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([401, '10']);
    expect(answer.body).toEqual({
      error: 'authentication failed',
      code: 'AUTH_FAILED',
      details: 'The key set for tokens is temporarily unavailable',
      retry_after: 10,
    });
    const client = dial(at, 'room', { token });
    expect((await client.next('system', 'error')).payload.code).toBe('AUTH_FAILED');
    expect((await client.closed).code).toBe(4401);
    expect(issuer.fetches - before).toBe(1);
  });

  test('a stop waits for no host that does not answer', async () => {
    issuer.answer = hanging;
    const at = await start({ REALTIME_JWKS_URL: issuer.url });
    const before = issuer.fetches;
    const token = await signClaims(CLAIMS, rsa.privateKey, { alg: 'RS256', kid: 'rsa-1' });
    const waiting = at.call('GET', '/realtime/stats', { token });
    const client = dial(at, 'room', { token });
    await eventually(() => expect(issuer.fetches - before).toBe(1));
    const began = performance.now();
    await at.stop();
    server = undefined;
    expect(performance.now() - began).toBeLessThan(3_000);
    expect((await waiting).status).toBe(401);
    await client.closed;
  });
});
