import fc from 'fast-check';
import { expect, test } from 'vitest';
import { asciiJson } from './ascii-json.js';

test('any JSON value is written in ASCII, and reads as the same value', () => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
      const json = asciiJson(value);
      expect(json).toMatch(/^[\0-\x7f]*$/);
      expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
  expect(asciiJson('é😀')).toBe('"\\u00e9\\ud83d\\ude00"');
});
