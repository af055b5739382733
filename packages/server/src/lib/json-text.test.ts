import fc from 'fast-check';
import { expect, it } from 'vitest';
import { numberText } from '../../../../tests/support/json-arbitraries.js';
import { JsonText, stringify } from './json-text.js';

it('inserts texts as they are, at any depth of plain objects', () => {
  fc.assert(
    fc.property(numberText, fc.string(), (text, key) => {
      const written = new JsonText(text);
      const quoted = JSON.stringify(key);
      expect(stringify(written)).toBe(text);
      expect(stringify({ [key]: written })).toBe(`{${quoted}:${text}}`);
      expect(stringify({ list: [1], outer: { [key]: { n: written } } })).toBe(
        `{"list":[1],"outer":{${quoted}:{"n":${text}}}}`,
      );
    }),
  );
});

it('serializes everything else like JSON.stringify', () => {
  const values = fc.anything({ withDate: true, withBoxedValues: true, withNullPrototype: true, maxDepth: 4 });
  fc.assert(
    fc.property(values, (value) => {
      expect(stringify(value)).toBe(JSON.stringify(value) ?? 'null');
    }),
    { numRuns: 500 },
  );
});

it('keeps a key __proto__', () => {
  const value = Object.fromEntries([['__proto__', new JsonText('1.0')]]);
  expect(stringify(value)).toBe('{"__proto__":1.0}');
});

it('throws where JSON.stringify would have to insert a text', () => {
  expect(() => JSON.stringify({ a: new JsonText('1') })).toThrow('use stringify');
  expect(() => stringify([new JsonText('1')])).toThrow('use stringify');
});
