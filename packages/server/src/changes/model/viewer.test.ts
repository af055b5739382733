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
});

test('one statement sets all of them, and no value is in its text', () => {
  const [sql, values] = settingsStatement(contexts.of(identity({ tenant_id: "r'ed" })));
  expect(sql).toBe(
    `SELECT ${[1, 3, 5, 7].map((n) => `pg_catalog.set_config($${n}, $${n + 1}, true)`).join(', ')}`,
  );
  expect(values.slice(4)).toEqual(['app.current_tenant', "r'ed", 'app.level', '']);
});
