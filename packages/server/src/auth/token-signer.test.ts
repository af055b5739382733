import { decodeProtectedHeader } from 'jose';
import { describe, expect, it } from 'vitest';
import { monotonicClock } from '../lib/clock.js';
import { silentLog } from '../lib/log.js';
import { signToken } from './token-signer.js';
import { type TokenRules, TokenVerifier } from './token-verifier.js';

const SECRET = 'a secret of more than thirty-two bytes, for tests';

/** Verifies a token by the same rules, as if the given ms had passed. */
function verify(token: string, rules: TokenRules = {}, laterMs = 0) {
  const key = { kind: 'secret', secret: SECRET } as const;
  return new TokenVerifier(key, rules, silentLog, {
    clock: monotonicClock,
    wallClock: { epochMs: () => Date.now() + laterMs },
  }).verify(token);
}

describe('a signed token', () => {
  it.each<TokenRules>([
    {},
    { issuer: 'https://id.example', audience: 'realtime' },
    { algorithms: ['HS512'] },
    { algorithms: ['HS384', 'HS256'], audience: 'a' },
  ])('is taken by a verifier of the same rules: %j', async (rules) => {
    const token = await signToken({ userId: 'ann', role: 'admin', expiresIn: 60_000 }, SECRET, rules);
    expect(await verify(token, rules)).toMatchObject({ userId: 'ann', roles: ['admin'] });
    expect(decodeProtectedHeader(token).alg).toBe(rules.algorithms?.[0] ?? 'HS256');
  });

  it('expires at the given time', async () => {
    const token = await signToken({ userId: 'ann', role: 'user', expiresIn: 3_600_000 }, SECRET);
    const identity = await verify(token, {}, 3_590_000);
    expect(Math.abs((identity?.expiresAt ?? 0) - Date.now() - 3_600_000)).toBeLessThan(10_000);
    await expect(verify(token, {}, 3_601_000)).rejects.toThrow('authentication failed');
  });

  it('is valid for at least a second, or for ever without an expiry', async () => {
    const short = await signToken({ userId: 'ann', role: 'user', expiresIn: 1 }, SECRET);
    expect((await verify(short, { clockToleranceMs: 5_000 }))?.expiresAt).toEqual(expect.any(Number));
    const endless = await signToken({ userId: 'ann', role: 'user', expiresIn: null }, SECRET);
    expect((await verify(endless, {}, 1e12))?.expiresAt).toBeNull();
  });
});
