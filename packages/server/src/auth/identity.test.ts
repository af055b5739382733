import type { JWTPayload } from 'jose';
import { describe, expect, it } from 'vitest';
import { anonymousIdentity, identityOf, isAnonymousToken } from './identity.js';

/** The claims of a token: any JSON. */
const claims = (value: Record<string, unknown>) => value as JWTPayload;

describe('the user in the claims of a token', () => {
  it.each([
    [{ sub: 'ann' }, 'ann'],
    [{ user_id: 'ann' }, 'ann'],
    [{ user_id: 'ann', sub: 'bob' }, 'ann'],
    [{ user_id: 'ann', sub: 7 }, 'ann'],
    [{ user_id: 'ann', sub: '' }, 'ann'],
    [{ user_id: null, sub: 'bob' }, 'bob'],
    [{ sub: '__proto__' }, '__proto__'],
    [{ sub: 'x'.repeat(255) }, 'x'.repeat(255)],
    [{ sub: 'ann 😀' }, 'ann 😀'],
  ])('of %j is %s', (token, userId) => {
    expect(identityOf(claims(token))?.userId).toBe(userId);
  });

  it.each([
    {},
    { sub: '' },
    { user_id: '', sub: 'bob' },
    { user_id: 7, sub: 'bob' },
    { sub: ['ann'] },
    { sub: 'x'.repeat(256) },
    { sub: 'system' },
    { user_id: 'system', sub: 'bob' },
    { sub: 'a\0b' },
    { sub: 'half \ud83d' },
    { user_id: '\udc00', sub: 'bob' },
    { user_id: 'ann', sub: 'a\0b' },
    { user_id: 'ann', sub: '\udc00' },
    { user_id: 'ann', sub: 'x'.repeat(256) },
  ])('%j have no user', (token) => {
    expect(identityOf(claims(token))).toBeNull();
  });
});

describe('the roles in the claims of a token', () => {
  it.each([
    [{}, ['user']],
    [{ role: 'admin' }, ['admin']],
    [{ role: ['a', 'b'] }, ['a', 'b']],
    [{ roles: ['a', 'b'] }, ['a', 'b']],
    [{ roles: 'a' }, ['a']],
    [{ app_metadata: { roles: ['a'] } }, ['a']],
    [{ app_metadata: { roles: 'a' } }, ['a']],
    [{ role: 'a', roles: ['b', 'a'], app_metadata: { roles: ['c', 'b'] } }, ['a', 'b', 'c']],
    [{ role: '', roles: [7, null, {}, 'b'], app_metadata: null }, ['b']],
    [{ role: { admin: true }, roles: null, app_metadata: ['admin'] }, ['user']],
    [{ user_metadata: { roles: ['admin'] } }, ['user']],
  ])('of %j are %j', (token, roles) => {
    expect(identityOf(claims({ sub: 'ann', ...token }))?.roles).toEqual(roles);
  });
});

describe('a token without a user', () => {
  it.each([
    [{ role: 'anon' }, true],
    [{ roles: ['anonymous', 'anon'] }, true],
    [{ app_metadata: { roles: ['anon'] }, iss: 'supabase' }, true],
    [{ role: 'anon', sub: null }, true],
    [{ role: 'anon', sub: '' }, false],
    [{ role: 'anon', user_id: 'ann' }, false],
    [{ role: 'anon', roles: ['user'] }, false],
    [{ role: 'admin' }, false],
    [{}, false],
  ])('with the claims %j counts as no token: %s', (token, is) => {
    expect(isAnonymousToken(claims(token))).toBe(is);
  });
});

describe('the expiry of a token', () => {
  it.each([
    [{}, null],
    [{ exp: 1_736_937_000 }, 1_736_937_000_000],
    [{ exp: 8.64e12 }, 8.64e15],
    [{ exp: 8.64e12 + 1 }, null],
    [{ exp: Number.POSITIVE_INFINITY }, null],
  ])('of %j is %s', (token, expiresAt) => {
    expect(identityOf(claims({ sub: 'ann', ...token }))?.expiresAt).toBe(expiresAt);
  });
});

it('a connection without a token has an anonymous user with its own id, and is limited by address', () => {
  expect(anonymousIdentity('c1', '192.0.2.1')).toEqual({
    userId: 'anon_c1',
    limitedAs: 'anon@192.0.2.1',
    roles: ['anonymous'],
    expiresAt: null,
    claims: {},
    isAnonymous: true,
  });
});
