import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isStorableText } from '../../lib/storable-text.js';
import { UTF8_TEXT } from '../../postgres/sql/database-text.js';
import { type Claims, evaluationClaims } from './evaluation-claims.js';

const LATIN1 = {
  canStore: (text: string) => isStorableText(text) && !/[^\0-\xff]/.test(text),
  takesEscapes: true,
};
const SQL_ASCII = { canStore: isStorableText, takesEscapes: false };

const seen = (claims: Claims, text = UTF8_TEXT): unknown => JSON.parse(evaluationClaims(claims, text).json);

test.each([
  [{ sub: 'ann', name: 'Łukasz 😀', n: 1.5, ok: true, none: null }, UTF8_TEXT, undefined],
  [{ sub: 'ann', exp: 1, iat: 2, nbf: 3, jti: 'x' }, UTF8_TEXT, { sub: 'ann' }],
  [{ inner: { exp: 1, jti: 'x' } }, UTF8_TEXT, undefined],
  [
    { a: 'x\0', b: ['\ud83d', 'y'], c: { d: '\udc00', e: 1 } },
    UTF8_TEXT,
    { a: null, b: [null, 'y'], c: { d: null, e: 1 } },
  ],
  [{ 'a\0': 1, b: { 'c\ud83d': 2, d: 3 } }, UTF8_TEXT, { b: { d: 3 } }],
  [{ name: 'José', city: 'Łódź', Łódź: 1 }, LATIN1, { name: 'José', city: null }],
  [{ name: 'Łukasz' }, SQL_ASCII, undefined],
])('policies see the claims %j in a database with %o as %j', (claims: Claims, text, expected) => {
  expect(seen(claims, text)).toEqual(expected ?? claims);
});

test('a key of prototypes is a claim like any other', () => {
  const claims = JSON.parse('{"__proto__":{"role":"admin"},"constructor":"x","toJSON":"y"}') as Claims;
  expect(evaluationClaims(claims, UTF8_TEXT).json).toBe(
    '{"__proto__":{"role":"admin"},"constructor":"x","toJSON":"y"}',
  );
});

test('the names of claims are reported whose value or key is replaced, anywhere in them', () => {
  const claims = { ok: 'é', a: '\0', b: { c: [{ d: '\ud83d' }] }, e: { 'f\0': 1 }, 'g\0': 1, jti: '\0' };
  expect(evaluationClaims(claims, UTF8_TEXT).replaced).toEqual(['a', 'b', 'e', 'g\0']);
});

/** Any JSON, with texts that a database cannot hold. */
const claims = fc.dictionary(
  fc.string({ unit: 'binary', maxLength: 5 }),
  fc.jsonValue({
    stringUnit: fc
      .oneof(fc.nat(0x24f), fc.integer({ min: 0xd800, max: 0xdfff }))
      .map((code) => String.fromCharCode(code)),
  }),
);

test('claims are ASCII without texts that the database cannot hold, in an order of their own', () => {
  fc.assert(
    fc.property(claims, fc.constantFrom(UTF8_TEXT, LATIN1), (token, text) => {
      const { json } = evaluationClaims(token, text);
      expect(json).toMatch(/^[\x20-\x7e]*$/);
      const texts: string[] = [];
      JSON.parse(json, (key, value: unknown) => {
        texts.push(key, ...(typeof value === 'string' ? [value] : []));
        return value;
      });
      expect(texts.filter((one) => !text.canStore(one))).toEqual([]);
      const reversed = Object.fromEntries(Object.entries(token).reverse());
      expect(evaluationClaims(reversed, text).json).toBe(json);
    }),
  );
});

test('claims that the database can hold are not changed', () => {
  fc.assert(
    fc.property(claims, (token) => {
      const storable = JSON.parse(evaluationClaims(token, UTF8_TEXT).json) as Claims;
      expect(seen(storable)).toEqual(storable);
      expect(evaluationClaims(storable, UTF8_TEXT).replaced).toEqual([]);
    }),
  );
});
