import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { ProtocolError } from '@goforward/realtime-protocol';
import { CompactSign, type JWTPayload, SignJWT } from 'jose';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../lib/log.js';
import { StartupError } from '../lib/startup-error.js';
import { TokenRefusal } from './token-refusal.js';
import { type TokenRules, TokenVerifier, type VerificationKey } from './token-verifier.js';

const NOW = Date.parse('2025-01-15T10:30:00Z');
const SECRET = 'a secret of more than thirty-two bytes, for tests';
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');

const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }).toString();
const publicKey = (key: KeyObject): VerificationKey => ({ kind: 'public-key', pem: pem(key) });
const shared = { kind: 'secret', secret: SECRET } as const;

function verifier(key: VerificationKey, rules: TokenRules = {}): TokenVerifier {
  return new TokenVerifier(key, rules, silentLog, { clock: () => 0, wallClock: { epochMs: () => NOW } });
}

function sign(alg: string, key: KeyObject | string, claims: JWTPayload = { sub: 'ann' }): Promise<string> {
  const material = typeof key === 'string' ? new TextEncoder().encode(key) : key;
  return new SignJWT(claims).setProtectedHeader({ alg }).sign(material);
}

async function refusal(verifying: Promise<unknown>): Promise<unknown> {
  const error = await verifying.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return error instanceof ProtocolError ? error.body : error;
}

const invalid = (reason: string) => ({
  error: 'authentication failed',
  code: 'AUTH_FAILED',
  details: 'Invalid or expired token',
  reason,
});
const seconds = (offset: number) => Math.floor(NOW / 1000) + offset;

describe('a token is accepted', () => {
  it.each([
    ['HS256', shared, SECRET],
    ['HS512', shared, SECRET],
    ['RS256', publicKey(rsa.publicKey), rsa.privateKey],
    ['PS384', publicKey(rsa.publicKey), rsa.privateKey],
    ['ES256', publicKey(ec.publicKey), ec.privateKey],
    ['EdDSA', publicKey(ed.publicKey), ed.privateKey],
    ['Ed25519', publicKey(ed.publicKey), ed.privateKey],
  ])('that is signed by %s with the configured key', async (alg, key, signer) => {
    const claims = { sub: 'ann', role: 'editor', exp: seconds(1), nbf: seconds(0), org: 7 };
    expect(await verifier(key).verify(await sign(alg, signer, claims))).toEqual({
      userId: 'ann',
      limitedAs: 'ann',
      roles: ['editor'],
      expiresAt: seconds(1) * 1000,
      claims,
    });
  });

  it.each([
    [{ issuer: 'https://id.example' }, { iss: 'https://id.example' }],
    [{ audience: 'realtime' }, { aud: ['web', 'realtime'] }],
    [{ algorithms: ['HS256', 'HS384'] }, {}],
    [{}, { deep: nested(63) }],
    [{}, { long: 'x'.repeat(12_100) }],
  ])('that follows the rules %j', async (rules, claims) => {
    const token = await sign('HS256', SECRET, { sub: 'ann', ...claims });
    expect((await verifier(shared, rules).verify(token))?.userId).toBe('ann');
  });
});

describe('a token is refused', () => {
  it('that is an HMAC over the text of the public key', async () => {
    for (const text of [pem(rsa.publicKey), pem(rsa.publicKey).trim()]) {
      const forged = await sign('HS256', text);
      expect(await refusal(verifier(publicKey(rsa.publicKey)).verify(forged))).toEqual(invalid('algorithm'));
    }
  });

  it('that is not signed', async () => {
    for (const [alg, bySecret, byPublicKey] of [
      ['none', 'algorithm', 'algorithm'],
      ['None', 'algorithm', 'algorithm'],
      ['NONE', 'algorithm', 'algorithm'],
      ['', 'malformed', 'malformed'],
      ['HS256', 'signature', 'algorithm'],
    ] as const) {
      const unsigned = `${encode({ alg, typ: 'JWT' })}.${encode({ sub: 'ann' })}.`;
      expect(await refusal(verifier(shared).verify(unsigned))).toEqual(invalid(bySecret));
      const byRsa = verifier(publicKey(rsa.publicKey));
      expect(await refusal(byRsa.verify(unsigned))).toEqual(invalid(byPublicKey));
    }
  });

  it.each<[string, string, TokenRules, JWTPayload]>([
    ['has expired', 'expired', {}, { sub: 'ann', exp: seconds(0) }],
    ['is not valid yet', 'not_yet_valid', {}, { sub: 'ann', nbf: seconds(1) }],
    ['was issued in the future', 'not_yet_valid', {}, { sub: 'ann', iat: seconds(1) }],
    ['has an exp that is not a number', 'claims', {}, claims({ sub: 'ann', exp: 'never' })],
    ['has an iat that is not a number', 'claims', {}, claims({ sub: 'ann', iat: 'now' })],
    [
      'comes from another issuer',
      'issuer',
      { issuer: 'https://id.example' },
      { sub: 'ann', iss: 'https://evil.example' },
    ],
    ['has no issuer', 'issuer', { issuer: 'https://id.example' }, { sub: 'ann' }],
    ['is for another audience', 'audience', { audience: 'realtime' }, { sub: 'ann', aud: ['web'] }],
    ['has no audience', 'audience', { audience: 'realtime' }, { sub: 'ann' }],
    ['is signed by an algorithm that is not allowed', 'algorithm', { algorithms: ['HS512'] }, { sub: 'ann' }],
    ['has no user', 'claims', {}, { role: 'admin' }],
    ['has neither a user nor a role', 'claims', {}, {}],
    ["has the server's user id in sub", 'claims', {}, { sub: 'system' }],
    ["has the server's user id in user_id", 'claims', {}, { sub: 'ann', user_id: 'system' }],
    ['has a user id that PostgreSQL cannot store', 'claims', {}, { sub: 'a\0b' }],
    ['has a sub that PostgreSQL cannot store', 'claims', {}, { user_id: 'ann', sub: 'a\0b' }],
    ['is nested deeper than 64 levels', 'claims', {}, { sub: 'ann', deep: nested(64) }],
    ['is longer than 16,384 characters', 'claims', {}, { sub: 'ann', long: 'x'.repeat(12_300) }],
  ])('that %s, with the reason %s', async (_, reason, rules, payload) => {
    const token = await sign('HS256', SECRET, payload);
    expect(await refusal(verifier(shared, rules).verify(token))).toEqual(invalid(reason));
  });

  it('that has claims of thousands of levels, where a refusal would quote them', async () => {
    const payload = Buffer.from(`{"sub":"ann","iss":${'['.repeat(5_900)}${']'.repeat(5_900)}}`);
    const token = await new CompactSign(payload)
      .setProtectedHeader({ alg: 'HS256' })
      .sign(new TextEncoder().encode(SECRET));
    const rules = { issuer: 'https://id.example' };
    expect(await refusal(verifier(shared, rules).verify(token))).toEqual(invalid('claims'));
    expect(await refusal(verifier(shared).verify(token))).toEqual(invalid('claims'));
  });

  it('that another key has signed', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    expect(await refusal(verifier(shared).verify(await sign('HS256', `${SECRET}!`)))).toEqual(
      invalid('signature'),
    );
    const foreign = await sign('ES256', other.privateKey);
    expect(await refusal(verifier(publicKey(ec.publicKey)).verify(foreign))).toEqual(invalid('signature'));
  });

  it('whose claims were changed after it was signed', async () => {
    const [header, , signature] = (await sign('HS256', SECRET)).split('.');
    const changed = [header, encode({ sub: 'root' }), signature].join('.');
    expect(await refusal(verifier(shared).verify(changed))).toEqual(invalid('signature'));
  });

  it.each([
    '',
    '.',
    '..',
    'a.b',
    'a.b.c',
    'null.null.null',
    `${encode({ alg: 'HS256', crit: ['x'], x: 1 })}.e30.`,
  ])('that is none: "%s"', async (text) => {
    expect(await refusal(verifier(shared).verify(text))).toEqual(invalid('malformed'));
    expect(await refusal(verifier(publicKey(ed.publicKey)).verify(text))).toEqual(invalid('malformed'));
  });
});

describe('the clock tolerance', () => {
  const rules = { clockToleranceMs: 5_000 };

  it.each([
    [{ exp: seconds(-4) }, undefined],
    [{ exp: seconds(-5) }, 'expired'],
    [{ nbf: seconds(5) }, undefined],
    [{ nbf: seconds(6) }, 'not_yet_valid'],
    [{ iat: seconds(5) }, undefined],
    [{ iat: seconds(6) }, 'not_yet_valid'],
  ])('of 5 s, at %j, gives %s', async (times, reason) => {
    const verifying = verifier(shared, rules).verify(await sign('HS256', SECRET, { sub: 'ann', ...times }));
    if (reason === undefined) expect((await verifying)?.userId).toBe('ann');
    else expect(await refusal(verifying)).toEqual(invalid(reason));
  });

  it('does not change when the token expires', async () => {
    const token = await sign('HS256', SECRET, { sub: 'ann', exp: seconds(-1) });
    expect((await verifier(shared, rules).verify(token))?.expiresAt).toBe(seconds(-1) * 1000);
  });
});

describe('a token without a user', () => {
  it.each([
    [{ role: 'anon' }],
    [{ role: 'anonymous' }],
    [{ role: 'anon', roles: ['anonymous'], iss: 'supabase', ref: 'project' }],
  ])('with the claims %j alone is no token', async (payload) => {
    expect(await verifier(shared).verify(await sign('HS256', SECRET, payload))).toBeNull();
  });

  it.each([
    [{ role: 'anon', roles: ['user'] }, 'claims'],
    [{ role: 'service_role' }, 'claims'],
    [{ role: 'anon', sub: '' }, 'claims'],
    [{ role: 'anon', exp: seconds(-1) }, 'expired'],
  ])('with the claims %j is refused for its %s', async (payload, reason) => {
    const token = await sign('HS256', SECRET, payload);
    expect(await refusal(verifier(shared).verify(token))).toEqual(invalid(reason));
  });

  it('is refused if another key has signed it', async () => {
    const forged = await sign('HS256', `${SECRET}!`, { role: 'anon' });
    expect(await refusal(verifier(shared).verify(forged))).toEqual(invalid('signature'));
  });
});

describe('the log message names the setting', () => {
  async function sentence(rules: TokenRules, token: string, key: VerificationKey = shared): Promise<string> {
    const error: unknown = await verifier(key, rules)
      .verify(token)
      .catch((reason: unknown) => reason);
    if (error instanceof TokenRefusal) return error.logMessage;
    throw error;
  }

  it.each<[string, TokenRules, JWTPayload]>([
    [
      'The issuer "https://\\u{202e}evil.example" is not REALTIME_JWT_ISSUER',
      { issuer: 'https://id.example' },
      { sub: 'ann', iss: 'https://\u202eevil.example' },
    ],
    ['The issuer (none) is not REALTIME_JWT_ISSUER', { issuer: 'https://id.example' }, { sub: 'ann' }],
    [
      'The audience "[\\"web\\"]" is not REALTIME_JWT_AUDIENCE',
      { audience: 'realtime' },
      { sub: 'ann', aud: ['web'] },
    ],
    [
      'The token expired at 2025-01-15T10:29:00.000Z; REALTIME_JWT_CLOCK_TOLERANCE is 5s',
      { clockToleranceMs: 5_000 },
      { sub: 'ann', exp: seconds(-60) },
    ],
    [
      'The token is not valid before 2025-01-15T10:31:00.000Z (nbf); REALTIME_JWT_CLOCK_TOLERANCE is 0s',
      {},
      { sub: 'ann', nbf: seconds(60) },
    ],
    [
      'The token is signed by "HS256"; with REALTIME_JWT_SECRET, REALTIME_JWT_ALGORITHMS allows HS512',
      { algorithms: ['HS512'] },
      { sub: 'ann' },
    ],
  ])('%s', async (text, rules, payload) => {
    expect(await sentence(rules, await sign('HS256', SECRET, payload))).toBe(text);
  });

  it('for each kind of key', async () => {
    const foreign = await sign('HS256', `${SECRET}!`);
    expect(await sentence({}, foreign)).toBe(
      'The token was signed with another key than REALTIME_JWT_SECRET',
    );
    expect(await sentence({}, foreign, { ...shared, isGenerated: true })).toBe(
      'The token was signed with another key than the generated secret of the data folder (REALTIME_JWT_SECRET is not set)',
    );
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    expect(await sentence({}, await sign('ES256', other.privateKey), publicKey(ec.publicKey))).toBe(
      'The token was signed with another key than REALTIME_JWT_PUBLIC_KEY',
    );
  });
});

describe('the server does not start', () => {
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const odd = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });

  it.each<[string, VerificationKey, TokenRules, RegExp]>([
    ['text that is not a key', { kind: 'public-key', pem: 'garbage' }, {}, /not a public key in PEM/],
    ['an RSA key that is too short', publicKey(small.publicKey), {}, /at least 2048 bits/],
    ['a curve without an algorithm', publicKey(odd.publicKey), {}, /must be an RSA, EC/],
    [
      'HS256 for a public key',
      publicKey(rsa.publicKey),
      { algorithms: ['RS256', 'HS256'] },
      /HS256 does not fit/,
    ],
    ['RS256 for a secret', shared, { algorithms: ['RS256'] }, /RS256 does not fit/],
    ['ES384 for a key on P-256', publicKey(ec.publicKey), { algorithms: ['ES384'] }, /Use one of ES256\./],
    ['none as algorithm', shared, { algorithms: ['none'] }, /none does not fit/],
    [
      'HS256 for a key set',
      { kind: 'jwks', url: 'https://id.example' },
      { algorithms: ['HS256'] },
      /does not fit/,
    ],
  ])('with %s', (_, key, rules, message) => {
    expect(() => verifier(key, rules)).toThrow(message);
    expect(() => verifier(key, rules)).toThrow(StartupError);
  });
});

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** An array of this many levels. */
function nested(levels: number): unknown {
  return JSON.parse('['.repeat(levels) + ']'.repeat(levels));
}

/** Claims that violate the standard. */
function claims(value: Record<string, unknown>): JWTPayload {
  return value as JWTPayload;
}
