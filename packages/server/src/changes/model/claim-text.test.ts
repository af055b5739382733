import { expect, test } from 'vitest';
import { UTF8_TEXT } from '../../postgres/sql/database-text.js';
import { claimText } from './claim-text.js';

test.each([
  [{ tenant_id: 'red' }, 'tenant_id', 'red'],
  [{ tenant_id: ' red ' }, 'tenant_id', ' red '],
  [{ tenant_id: 7 }, 'tenant_id', '7'],
  [{ tenant_id: 1.5 }, 'tenant_id', '1.5'],
  [{ active: false }, 'active', 'false'],
  [{ orgs: ['a', 1] }, 'orgs', '["a",1]'],
  [{ org: { id: 7 } }, 'org', '{"id":7}'],
  [{ org: { id: 7 } }, 'org.id', '7'],
  [{ a: { b: { c: true } } }, 'a.b.c', 'true'],
  [{ 'https://app.example/tenant': 'red' }, 'https://app.example/tenant', 'red'],
  [{ 'a.b': 'whole', a: { b: 'nested' } }, 'a.b', 'whole'],
])('of the claims %j, %s is %j', (claims, claim, text) => {
  expect(claimText(claims, claim, UTF8_TEXT)).toBe(text);
});

test.each([
  [{}, 'tenant_id'],
  [{ tenant_id: null }, 'tenant_id'],
  [{ org: 'red' }, 'org.id'],
  [{ org: null }, 'org.id'],
  [{ org: ['red'] }, 'org.0'],
  [{ org: {} }, 'org.constructor'],
  [{}, 'constructor'],
  [{}, '__proto__'],
  [{ tenant_id: 'a\0b' }, 'tenant_id'],
  [{ tenant_id: 'half \ud83d' }, 'tenant_id'],
])('of the claims %j, %s is empty', (claims, claim) => {
  expect(claimText(claims, claim, UTF8_TEXT)).toBe('');
});

test('what PostgreSQL cannot take is null within JSON', () => {
  expect(claimText({ orgs: ['a\0b', '\ud83d', 'é'] }, 'orgs', UTF8_TEXT)).toBe('[null,null,"\\u00e9"]');
});
