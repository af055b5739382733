import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { ProtocolError } from '@goforward/realtime-protocol';
import { type JWTPayload, SignJWT } from 'jose';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../lib/log.js';
import { StartupError } from '../lib/startup-error.js';
import { type TokenRules, TokenVerifier, type VerificationKey } from './token-verifier.js';

const NOW = Date.parse('2025-01-15T10:30:00Z');
const SECRET = 'a secret of more than thirty-two bytes, for tests';
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');

const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }).toString();
const publicKey = (key: KeyObject): VerificationKey => ({ kind: 'public-key', pem: pem(key) });
const shared: VerificationKey = { kind: 'secret', secret: SECRET };

function verifier(key: VerificationKey, rules: TokenRules = {}): TokenVerifier {
  return new TokenVerifier(key, rules, silentLog, () => NOW);
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

const INVALID = { error: 'authentication failed', code: 'AUTH_FAILED', details: 'Invalid or expired token' };
const seconds = (offset: number) => Math.floor(NOW / 1000) + offset;

describe('a token is taken', () => {
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
  ])('that follows the rules %j', async (rules, claims) => {
    const token = await sign('HS256', SECRET, { sub: 'ann', ...claims });
    expect((await verifier(shared, rules).verify(token)).userId).toBe('ann');
  });
});

describe('a token is refused', () => {
  it('that is an HMAC over the text of the public key', async () => {
    for (const text of [pem(rsa.publicKey), pem(rsa.publicKey).trim()]) {
      const forged = await sign('HS256', text);
      expect(await refusal(verifier(publicKey(rsa.publicKey)).verify(forged))).toEqual(INVALID);
    }
  });

  it('that is not signed', async () => {
    for (const alg of ['none', 'None', 'NONE', '', 'HS256']) {
      const unsigned = `${encode({ alg, typ: 'JWT' })}.${encode({ sub: 'ann' })}.`;
      for (const key of [shared, publicKey(rsa.publicKey)]) {
        expect(await refusal(verifier(key).verify(unsigned))).toEqual(INVALID);
      }
    }
  });

  it.each<[string, TokenRules, JWTPayload]>([
    ['has expired', {}, { sub: 'ann', exp: seconds(0) }],
    ['is not valid yet', {}, { sub: 'ann', nbf: seconds(1) }],
    ['has an end that is no number', {}, claims({ sub: 'ann', exp: 'never' })],
    [
      'comes from another issuer',
      { issuer: 'https://id.example' },
      { sub: 'ann', iss: 'https://evil.example' },
    ],
    ['names no issuer', { issuer: 'https://id.example' }, { sub: 'ann' }],
    ['is meant for another audience', { audience: 'realtime' }, { sub: 'ann', aud: ['web'] }],
    ['is meant for nobody', { audience: 'realtime' }, { sub: 'ann' }],
    ['is signed by an algorithm that is not allowed', { algorithms: ['HS512'] }, { sub: 'ann' }],
    ['names no user', {}, { role: 'admin' }],
    ['claims to be the system', {}, { sub: 'system' }],
    ['claims to be the system by user_id', {}, { sub: 'ann', user_id: 'system' }],
  ])('that %s', async (_, rules, payload) => {
    const token = await sign('HS256', SECRET, payload);
    expect(await refusal(verifier(shared, rules).verify(token))).toEqual(INVALID);
  });

  it('that another key has signed', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    expect(await refusal(verifier(shared).verify(await sign('HS256', `${SECRET}!`)))).toEqual(INVALID);
    const foreign = await sign('ES256', other.privateKey);
    expect(await refusal(verifier(publicKey(ec.publicKey)).verify(foreign))).toEqual(INVALID);
  });

  it('whose claims were changed after it was signed', async () => {
    const [header, , signature] = (await sign('HS256', SECRET)).split('.');
    const changed = [header, encode({ sub: 'root' }), signature].join('.');
    expect(await refusal(verifier(shared).verify(changed))).toEqual(INVALID);
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
    expect(await refusal(verifier(shared).verify(text))).toEqual(INVALID);
    expect(await refusal(verifier(publicKey(ed.publicKey)).verify(text))).toEqual(INVALID);
  });
});

describe('the server does not start', () => {
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const odd = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });

  it.each<[string, VerificationKey, TokenRules, RegExp]>([
    ['text that is no key', { kind: 'public-key', pem: 'rubbish' }, {}, /not a public key in PEM/],
    ['an RSA key that is too short', publicKey(small.publicKey), {}, /at least 2048 bits/],
    ['a curve that no algorithm has', publicKey(odd.publicKey), {}, /must be an RSA, EC/],
    [
      'HS256 for a public key',
      publicKey(rsa.publicKey),
      { algorithms: ['RS256', 'HS256'] },
      /HS256 does not fit/,
    ],
    ['RS256 for a secret', shared, { algorithms: ['RS256'] }, /RS256 does not fit/],
    ['ES384 for a key on P-256', publicKey(ec.publicKey), { algorithms: ['ES384'] }, /possible: ES256\)/],
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

/** Claims that are not what the standard wants. */
function claims(value: Record<string, unknown>): JWTPayload {
  return value as JWTPayload;
}
