import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compact, objectText, stringText, valueText } from '../../../../tests/support/json-arbitraries.js';
import { memberTexts, TooDeep } from './json-members.js';

const textsOf = (json: string) => new Map([...memberTexts(json)].map(([key, { text }]) => [key, text]));

describe('the texts of members', () => {
  it('are what was written, the last one of equal keys, for any object', () => {
    fc.assert(
      fc.property(objectText('"payload"', '"pay\\u006coad"', '"ref"'), ({ text, members }) => {
        const expected = new Map(
          members.map(([key, value]) => [JSON.parse(key) as string, compact(value)] as const),
        );
        expect(textsOf(text)).toEqual(expected);
      }),
      { numRuns: 1_000 },
    );
  });

  it('have the values that JSON.parse finds, under the same keys', () => {
    fc.assert(
      fc.property(objectText('"a"', '"__proto__"'), ({ text }) => {
        const parsed = new Map(Object.entries(JSON.parse(text) as object));
        const values = new Map([...textsOf(text)].map(([key, value]) => [key, JSON.parse(value) as unknown]));
        expect(values).toEqual(parsed);
      }),
      { numRuns: 500 },
    );
  });

  it('are none where the value is no object', () => {
    const noObject = fc.oneof(
      valueText.filter((text) => !text.startsWith('{')),
      stringText,
      fc.constantFrom('[{"payload":1}]', '["payload",1]', '"{\\"payload\\":1}"'),
    );
    fc.assert(
      fc.property(noObject, (text) => {
        expect(textsOf(text)).toEqual(new Map());
      }),
    );
  });

  it('of a nested object are not found in the outer one', () => {
    const text = '{"a":{"payload":1},"b":"\\"payload\\":2","c":["payload",{"payload":3}]}';
    expect([...textsOf(text).keys()]).toEqual(['a', 'b', 'c']);
  });

  it('have no whitespace between tokens, and keep all of a string', () => {
    expect(textsOf('{"a" : [1,\r\n  2,\t3] ,\n"b":"\\n \\r\u2028é \\" \\\\"\n}')).toEqual(
      new Map([
        ['a', '[1,2,3]'],
        ['b', '"\\n \\r\u2028é \\" \\\\"'],
      ]),
    );
  });

  it.each([
    ['quotes behind backslashes', `{"a":"${'\\\\'.repeat(50_000)}","b":"${'\\"'.repeat(50_000)}","c":1}`, 3],
    ['digits', `{"a":${'1'.repeat(64_000)}}`, 1],
    ['keys', `{${Array.from({ length: 10_000 }, (_, n) => `"k${n}":${n}`).join()}}`, 10_000],
    ['whitespace', `{"a":[${'1,\n'.repeat(30_000)}1]}`, 1],
  ])('of 100 kB of %s are found', (_, text, count) => {
    const texts = textsOf(text);
    expect(texts.size).toBe(count);
    expect(JSON.parse(texts.get('a') ?? 'null')).toEqual((JSON.parse(text) as { a?: unknown }).a ?? null);
  });

  it('are refused beyond the depth', () => {
    expect(() => memberTexts('{"a":[[]]}', 2)).toThrow(TooDeep);
    expect(textsOf('{"a":[[]]}').get('a')).toBe('[[]]');
  });
});
