import { expect, test } from 'vitest';
import type { Identity } from '../../auth/identity.js';
import { settingsOf, settingsStatement, Viewers } from './viewer.js';

const identity = (claims: Record<string, unknown>): Identity => ({
  userId: 'ada',
  limitedAs: 'ada',
  roles: ['user'],
  expiresAt: null,
  claims,
});
const contexts = new Viewers(
  ['writer'],
  [
    { name: 'app.current_tenant', claim: 'tenant_id' },
    { name: 'app.level', claim: 'app_metadata.level' },
  ],
);

test('a context has the settings of every user, and those from claims', () => {
  const claims = { sub: 'ada', tenant_id: 'red' };
  expect(settingsOf(contexts.of(identity(claims)))).toEqual([
    { name: 'app.current_user_id', value: 'ada' },
    { name: 'request.jwt.claims', value: JSON.stringify(claims) },
    { name: 'app.current_tenant', value: 'red' },
    { name: 'app.level', value: '' },
  ]);
});

test('contexts of other settings have other keys, and of equal ones equal keys', () => {
  const keyOf = (claims: Record<string, unknown>) => contexts.of(identity(claims)).key;
  expect(keyOf({ tenant_id: 'red' })).toBe(keyOf({ tenant_id: 'red' }));
  expect(keyOf({ tenant_id: 'red' })).not.toBe(keyOf({ tenant_id: 'blue' }));
  expect(keyOf({ tenant_id: 'red', team: 'a' })).toBe(keyOf({ team: 'a', tenant_id: 'red' }));
});

test('the tokens of a user differ in times and ids, and have one context', () => {
  const tokens = [1, 2].map((n) => ({ sub: 'ada', iat: n, nbf: n, exp: n + 60, jti: `token ${n}` }));
  const [first, second] = tokens.map((claims) => contexts.of(identity(claims)));
  expect(second).toEqual(first);
  expect(first?.claims).toBe('{"sub":"ada"}');
});

test('the names of claims that the database cannot hold are reported once for each token', () => {
  const reported: (readonly string[])[] = [];
  const viewers = new Viewers([], [], (claims) => reported.push(claims));
  const token = identity({ sub: 'ada', note: 'a\0b', team: 'red' });
  expect(viewers.of(token).claims).toBe('{"note":null,"sub":"ada","team":"red"}');
  viewers.of(token);
  viewers.of(identity({ team: 'red' }));
  expect(reported).toEqual([['note']]);
});

test('a context is made again for a database of another encoding, and says if it cannot hold the user id', () => {
  const viewers = new Viewers([], [{ name: 'app.city', claim: 'city' }]);
  const token = { ...identity({ city: 'Łódź', name: 'José' }), userId: 'Łukasz' };
  expect(viewers.of(token)).toMatchObject({ settings: [{ value: 'Łódź' }] });
  expect(viewers.of(token).isUnstorable).toBeUndefined();
  const latin1 = { canStore: (text: string) => !/[^\0-\xff]/.test(text), takesEscapes: true };
  expect(viewers.use(latin1)).toBe(true);
  expect(viewers.use(latin1)).toBe(false);
  expect(viewers.of(token)).toMatchObject({
    claims: '{"city":null,"name":"Jos\\u00e9"}',
    settings: [{ name: 'app.city', value: '' }],
    isUnstorable: true,
  });
});

test('one statement sets all of them, and no value is in its text', () => {
  const [sql, values] = settingsStatement(contexts.of(identity({ tenant_id: "r'ed" })));
  expect(sql).toBe(
    `SELECT ${[1, 3, 5, 7].map((n) => `pg_catalog.set_config($${n}, $${n + 1}, true)`).join(', ')}`,
  );
  expect(values.slice(4)).toEqual(['app.current_tenant', "r'ed", 'app.level', '']);
});
