import { type ErrorBody, ProtocolError } from '@goforward/realtime-protocol';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  away,
  hanging,
  type Issuer,
  json,
  jwk,
  keyPair,
  startIssuer,
} from '../../../../tests/support/issuer.js';
import { RecordingLog } from '../../../../tests/support/recording-log.js';
import { TokenVerifier } from './token-verifier.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const COOL_DOWN = 10 * SECOND;

let now: number;
let log: RecordingLog;
let issuer: Issuer;
let tokens: TokenVerifier;

beforeEach(async () => {
  issuer = await startIssuer('one');
  begin();
});

afterEach(() => issuer.stop());

/** Starts at time 0 with a verifier without keys. */
function begin(query = ''): void {
  now = 0;
  log = new RecordingLog();
  const clocks = { clock: () => now, wallClock: { epochMs: () => Date.now() } };
  tokens = new TokenVerifier({ kind: 'jwks', url: `${issuer.url}${query}` }, {}, log, clocks);
}

/** Returns the user of a token of this key, or the fields of the refusal. */
async function tryToken(
  kid = 'one',
  token = issuer.sign({ sub: 'ann' }, kid),
): Promise<ErrorBody | string | undefined> {
  try {
    return (await tokens.verify(await token))?.userId;
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return error.body;
  }
}

const unavailable = {
  error: 'authentication failed',
  code: 'AUTH_FAILED',
  details: 'The key set for tokens is temporarily unavailable',
  retry_after: expect.any(Number),
};
const forged = expect.objectContaining({ code: 'AUTH_FAILED', reason: 'signature' });

/** Tries `count` tokens with different unknown keys at the same time. */
function tryForged(count: number) {
  return Promise.all(Array.from({ length: count }, (_, n) => tryToken(`forged ${n}`)));
}

describe('a key set that was fetched', () => {
  beforeEach(async () => {
    expect(await tryToken()).toBe('ann');
  });

  it('is fetched once per cool-down for any number of tokens with unknown keys', async () => {
    now = COOL_DOWN - 1;
    expect(await tryForged(50)).toEqual(Array(50).fill(forged));
    expect(issuer.fetches).toBe(1);
    now = COOL_DOWN;
    expect(await tryForged(50)).toEqual(Array(50).fill(forged));
    expect(issuer.fetches).toBe(2);
    now = 2 * COOL_DOWN - 1;
    expect(await tryForged(50)).toEqual(Array(50).fill(forged));
    expect(issuer.fetches).toBe(2);
  });

  it('has a new key after the cool-down', async () => {
    issuer.add('two');
    expect(await tryToken('two')).toEqual(forged);
    now = COOL_DOWN;
    expect(await tryToken('two')).toBe('ann');
  });

  it('is fetched again in the background after five minutes, and lacks a removed key from then on', async () => {
    const removed = issuer.sign({ sub: 'ann' }, 'one');
    issuer.remove('one');
    issuer.add('two');
    now = 5 * MINUTE;
    expect(await tryToken('one', removed)).toBe('ann');
    await expect.poll(() => tryToken('two')).toBe('ann');
    expect(await tryToken('one', removed)).toEqual(forged);
    expect(issuer.fetches).toBe(2);
  });

  it('is not used after ten minutes without a look at the issuer', async () => {
    const removed = issuer.sign({ sub: 'ann' }, 'one');
    issuer.remove('one');
    now = 10 * MINUTE;
    expect(await tryToken('one', removed)).toEqual(forged);
  });

  it('is used for an hour while the issuer is away, and not longer', async () => {
    issuer.answer = away;
    for (now = 5 * MINUTE; now < 60 * MINUTE; now += MINUTE) expect(await tryToken()).toBe('ann');
    now = 60 * MINUTE - 1;
    expect(await tryToken()).toBe('ann');
    now = 60 * MINUTE;
    expect(await tryToken()).toEqual(unavailable);
  });

  it('makes no token wait while the issuer hangs, after the first that found out', async () => {
    now = 11 * MINUTE;
    issuer.answer = away;
    expect(await tryToken()).toBe('ann');
    issuer.answer = hanging;
    now += COOL_DOWN;
    expect(await tryToken()).toBe('ann');
    expect(await tryToken()).toBe('ann');
    await expect.poll(() => issuer.fetches).toBe(3);
  });

  it('does not say that a token is forged if its key may be new and the issuer is away', async () => {
    issuer.answer = away;
    now = COOL_DOWN;
    expect(await tryToken('two')).toEqual(unavailable);
    expect(await tryToken('two')).toEqual(unavailable);
    expect([issuer.fetches, await tryToken()]).toEqual([2, 'ann']);
  });
});

describe('a key set that was never fetched', () => {
  it('is fetched once for all tokens that wait for it', async () => {
    expect(await Promise.all(Array.from({ length: 20 }, () => tryToken()))).toEqual(Array(20).fill('ann'));
    expect(issuer.fetches).toBe(1);
  });

  it('is fetched once per cool-down while its issuer is away, and tokens in between are refused at once', async () => {
    issuer.answer = away;
    expect(await tryForged(50)).toEqual(Array(50).fill(unavailable));
    now = COOL_DOWN - 1;
    expect(await tryForged(50)).toEqual(Array(50).fill({ ...unavailable, retry_after: 1 }));
    expect(issuer.fetches).toBe(1);
    now = COOL_DOWN;
    expect(await tryForged(50)).toEqual(Array(50).fill({ ...unavailable, retry_after: 10 }));
    expect(issuer.fetches).toBe(2);
  });

  it('lets no token wait for its issuer once the server stops', async () => {
    issuer.answer = hanging;
    const waiting = tryToken();
    await expect.poll(() => issuer.fetches).toBe(1);
    tokens.close();
    expect(await waiting).toEqual(unavailable);
    expect(log.errors).toEqual([]);
  });

  it('is fetched by nobody who sends what cannot be a token', async () => {
    await tryToken('one', Promise.resolve('garbage'));
    await tryToken('one', Promise.resolve('a.b.c.d.e'));
    await tryToken('one', Promise.resolve(`${Buffer.from('{"alg":"none"}').toString('base64url')}.e30.`));
    expect(issuer.fetches).toBe(0);
  });
});

type Step =
  | { do: 'wait'; ms: number }
  | { do: 'verify'; kid: 'one' | 'removed' | 'unknown' }
  | { do: 'remove' | 'away' | 'back' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('wait' as const), ms: fc.oneof(fc.nat(COOL_DOWN), fc.nat(70 * MINUTE)) }),
  fc.record({
    do: fc.constant('verify' as const),
    kid: fc.constantFrom('one' as const, 'removed' as const, 'unknown' as const),
  }),
  fc.record({ do: fc.constantFrom('remove' as const, 'away' as const, 'back' as const) }),
);

describe('whatever happens', () => {
  it('fetches are a cool-down apart, and a removed key is refused after an hour', async () => {
    const keySet = issuer.answer;
    issuer.add('removed');
    const sign = (kid: string) => issuer.sign({ sub: 'ann' }, kid);
    const signed = { one: await sign('one'), removed: await sign('removed'), unknown: await sign('unknown') };
    let runs = 0;
    async function run(steps: readonly Step[]): Promise<void> {
      const query = `?run=${++runs}`;
      begin(query);
      const fetchedAt: number[] = [];
      let removedAt = Number.POSITIVE_INFINITY;
      let isAway = false;
      issuer.answer = (request, response) => {
        // The last fetch of an earlier run may arrive in this one.
        if (request.url?.endsWith(query) === true) fetchedAt.push(now);
        if (isAway) return away(request, response);
        if (now < removedAt) return keySet(request, response);
        return json({ keys: [] })(request, response);
      };
      for (const action of steps) {
        if (action.do === 'wait') now += action.ms;
        else if (action.do === 'remove') removedAt = Math.min(removedAt, now);
        else if (action.do === 'verify') {
          const answer = await tryToken(action.kid, Promise.resolve(signed[action.kid]));
          if (answer === 'ann' && action.kid === 'removed') expect(now - removedAt).toBeLessThan(60 * MINUTE);
        } else isAway = action.do === 'away';
      }
      for (const [n, at] of fetchedAt.entries())
        expect(at - (fetchedAt[n - 1] ?? Number.NEGATIVE_INFINITY)).toBeGreaterThanOrEqual(COOL_DOWN);
    }
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), run), { numRuns: 50 });
  });
});

describe('the log', () => {
  it('says at once that the issuer is away, repeats it once a minute, and says when it is back', async () => {
    const keySet = issuer.answer;
    issuer.answer = away;
    const fatal = 'Fetching the key set of REALTIME_JWKS_URL failed; tokens are refused until it succeeds';
    for (now = 0; now <= 60 * SECOND; now += COOL_DOWN) await tryToken();
    expect(log.errors).toEqual([expect.stringContaining(fatal), expect.stringContaining(fatal)]);
    expect(log.errors[0]).toContain('the connection to its host failed');
    issuer.answer = keySet;
    expect(await tryToken()).toBe('ann');
    await tryToken();
    expect(log.infos).toEqual(['The key set of REALTIME_JWKS_URL is available again {}']);
    expect(log.warnings).toEqual([]);
  });

  it('warns while the last keys stay in use, and has an error when they are too old', async () => {
    await tryToken();
    issuer.answer = away;
    now = 59 * MINUTE;
    await tryToken();
    expect([log.warnings, log.errors]).toEqual([
      ['Refreshing the key set of REALTIME_JWKS_URL failed; the last keys stay in use for up to an hour'],
      [],
    ]);
    now = 60 * MINUTE;
    await tryToken();
    expect(log.errors).toHaveLength(1);
  });
});

describe('an issuer that', () => {
  it('has keys of other kinds beside its key is used', async () => {
    const { publicKey, privateKey } = keyPair();
    issuer.answer = json({
      keys: [{ kty: 'oct', k: 'c2VjcmV0', kid: 'one' }, { kty: 'x' }, {}, jwk(publicKey, 'one')],
    });
    expect(await tryToken('one', issuer.sign({ sub: 'ann' }, 'one', privateKey))).toBe('ann');
  });

  it('has two keys of the same kid is not asked again for each token, and the token is refused', async () => {
    const { publicKey, privateKey } = keyPair();
    issuer.answer = json({ keys: [jwk(publicKey, 'one'), jwk(publicKey, 'one')] });
    const token = issuer.sign({ sub: 'ann' }, 'one', privateKey);
    for (let n = 0; n < 5; n++) expect(await tryToken('one', token)).toEqual(forged);
    expect(issuer.fetches).toBe(1);
  });
});
