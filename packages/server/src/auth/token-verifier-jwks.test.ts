import { generateKeyPairSync, type KeyObject, sign as signBytes } from 'node:crypto';
import { type ErrorBody, ProtocolError } from '@goforward/realtime-protocol';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Issuer, json, jwk, keyPair, startIssuer } from '../../../../tests/support/issuer.js';
import { RecordingLog } from '../../../../tests/support/recording-log.js';
import { TokenVerifier } from './token-verifier.js';

const one = keyPair();
const two = generateKeyPairSync('rsa', { modulusLength: 2048 });
const foreign = keyPair();
const keySet = json({ keys: [jwk(one.publicKey, 'one'), jwk(two.publicKey, 'two')] });

let issuer: Issuer;
/** A host that tokens name, but nobody trusts. */
let stranger: Issuer;
let log: RecordingLog;
let tokens: TokenVerifier;

beforeAll(async () => {
  issuer = await startIssuer();
  stranger = await startIssuer();
  stranger.answer = json({ keys: [jwk(foreign.publicKey, 'one')] });
});

beforeEach(() => {
  issuer.answer = keySet;
  log = new RecordingLog();
  tokens = new TokenVerifier({ kind: 'jwks', url: issuer.url }, {}, log);
});

afterAll(async () => {
  await issuer.stop();
  await stranger.stop();
});

function sign(alg: string, kid: string | undefined, key: KeyObject | Uint8Array): Promise<string> {
  const header = { alg, ...(kid === undefined ? {} : { kid }) };
  return new SignJWT({ sub: 'ann' }).setProtectedHeader(header).sign(key);
}

/** Signs a token with this header, whatever it says, for ES256. */
function signHeader(header: object | string, key = one.privateKey): string {
  const parts = [typeof header === 'string' ? header : JSON.stringify(header), '{"sub":"ann"}'];
  const input = parts.map((part) => Buffer.from(part).toString('base64url')).join('.');
  const signature = signBytes('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}

async function refusal(token: string): Promise<ErrorBody> {
  const error: unknown = await tokens.verify(token).catch((reason: unknown) => reason);
  if (!(error instanceof ProtocolError) || error.code !== 'AUTH_FAILED') throw error;
  return error.body;
}

describe('with a remote key set', () => {
  it('a token is verified by the key that it names', async () => {
    expect((await tokens.verify(await sign('ES256', 'one', one.privateKey)))?.userId).toBe('ann');
    expect((await tokens.verify(await sign('RS256', 'two', two.privateKey)))?.userId).toBe('ann');
  });

  it('a token that names no key is verified by the only key that fits its algorithm', async () => {
    expect((await tokens.verify(await sign('ES256', undefined, one.privateKey)))?.userId).toBe('ann');
  });

  it('a token that names no key, where several fit, is refused, and no key is tried', async () => {
    issuer.answer = json({ keys: [jwk(one.publicKey, 'one'), jwk(foreign.publicKey, 'three')] });
    const token = await sign('ES256', undefined, one.privateKey);
    expect(await refusal(token)).toMatchObject({ reason: 'signature' });
  });

  it('a token with a foreign key, an unknown key id or a secret is refused, and nothing is logged', async () => {
    const secret = new TextEncoder().encode(JSON.stringify(jwk(one.publicKey, 'one')));
    for (const [token, reason] of [
      [await sign('ES256', 'one', foreign.privateKey), 'signature'],
      [await sign('ES256', 'three', one.privateKey), 'signature'],
      [await sign('ES256', 'two', one.privateKey), 'signature'],
      [await sign('HS256', 'one', secret), 'algorithm'],
      ['garbage', 'malformed'],
    ] as const) {
      expect(await refusal(token)).toMatchObject({ details: 'Invalid or expired token', reason });
    }
    expect([log.errors, log.warnings]).toEqual([[], []]);
  });

  it('a key that is too short is an error of the key set, not of the token', async () => {
    const short = generateKeyPairSync('rsa', { modulusLength: 1024 });
    issuer.answer = json({ keys: [jwk(short.publicKey, 'one')] });
    const parts = [{ alg: 'RS256', kid: 'one' }, { sub: 'ann' }];
    const input = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    const signature = signBytes('sha256', Buffer.from(input), short.privateKey).toString('base64url');
    for (let n = 0; n < 5; n++) {
      expect(await refusal(`${input}.${signature}`)).toEqual({
        error: 'authentication failed',
        code: 'AUTH_FAILED',
        details: 'The key set for tokens is temporarily unavailable',
      });
    }
    expect(log.errors).toHaveLength(1);
    expect(log.errors[0]).toContain('The key set of REALTIME_JWKS_URL could not be used');
  });
});

describe('a header', () => {
  const nested = `${'['.repeat(6_000)}${']'.repeat(6_000)}`;

  it.each<[string, object | string, string]>([
    ['with alg none', { alg: 'none', kid: 'one' }, 'algorithm'],
    ['with an algorithm that is no text', { alg: ['ES256'], kid: 'one' }, 'malformed'],
    ['without an algorithm', { kid: 'one' }, 'malformed'],
    ['with a critical extension', { alg: 'ES256', kid: 'one', crit: ['exp'], exp: 1 }, 'malformed'],
    ['with crit that is no list', { alg: 'ES256', kid: 'one', crit: 'b64' }, 'malformed'],
    ['with an unencoded payload', { alg: 'ES256', kid: 'one', crit: ['b64'], b64: false }, 'malformed'],
    ['that is a list', '[]', 'malformed'],
    ['that is null', 'null', 'malformed'],
    ['that is no JSON', '{"alg":', 'malformed'],
    ['that is nested deeply', nested, 'malformed'],
    ['with a key id that is an object', { alg: 'ES256', kid: { one: 'one' } }, 'signature'],
    ['with a key id of a prototype', { alg: 'ES256', kid: '__proto__' }, 'signature'],
    ['with a huge key id', { alg: 'ES256', kid: 'x'.repeat(12_000) }, 'signature'],
  ])('%s is refused', async (_, header, reason) => {
    expect(await refusal(signHeader(header))).toMatchObject({ reason });
    expect(log.errors).toEqual([]);
  });

  it('of an encrypted token (five parts) is refused', async () => {
    const header = Buffer.from('{"alg":"dir","enc":"A256GCM","zip":"DEF","kid":"one"}').toString('base64url');
    expect(await refusal(`${header}.a.b.c.d`)).toMatchObject({ reason: 'malformed' });
  });

  it('with a key or an address of keys of its own is verified by the key set alone', async () => {
    const own = {
      alg: 'ES256',
      kid: 'one',
      zip: 'DEF',
      jwk: jwk(foreign.publicKey, 'one'),
      jku: stranger.url,
      x5u: stranger.url,
      x5c: ['MIIB'],
      x5t: 'AAAA',
    };
    expect(await refusal(signHeader(own, foreign.privateKey))).toMatchObject({ reason: 'signature' });
    expect((await tokens.verify(signHeader(own)))?.userId).toBe('ann');
    expect(stranger.fetches).toBe(0);
  });
});
