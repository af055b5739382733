import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { JsonError, parseJson } from './json.js';

const parse = (text: string, maxDepth = 64) => parseJson(Buffer.from(text), maxDepth).value;

/** Counts the levels of arrays and objects in a value, by recursion. */
function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

describe('parsing JSON of bounded depth', () => {
  it('accepts exactly the values whose recursive depth is within the limit, and returns what JSON.parse returns', () => {
    const noisy = fc.string({ unit: fc.constantFrom('[', ']', '{', '}', '"', '\\', ',', 'é', '😀', 'a') });
    const { tree } = fc.letrec<{ tree: unknown; node: unknown }>((tie) => ({
      tree: fc.oneof({ depthSize: 'large' }, noisy, fc.integer(), fc.constant(null), tie('node')),
      node: fc.oneof(
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(noisy, tie('tree'), { maxKeys: 3 }),
      ),
    }));
    fc.assert(
      fc.property(
        tree,
        fc.integer({ min: 0, max: 6 }),
        fc.constantFrom(undefined, 2),
        (value, maxDepth, indent) => {
          const text = JSON.stringify(value, null, indent);
          if (depthOf(value) <= maxDepth) expect(parse(text, maxDepth)).toEqual(JSON.parse(text));
          else expect(() => parse(text, maxDepth)).toThrow(`nested deeper than ${maxDepth} levels`);
        },
      ),
      { numRuns: 500 },
    );
  });

  it.each([63, 64])('accepts %d levels', (levels) => {
    expect(depthOf(parse(`${'['.repeat(levels)}${']'.repeat(levels)}`))).toBe(levels);
  });

  it('rejects 65 and a million levels, whether the brackets are closed or not', () => {
    for (const levels of [65, 1_000_000]) {
      expect(() => parse(`${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`)).toThrow(/64 levels/);
      expect(() => parse('['.repeat(levels + 64))).toThrow(JsonError);
    }
  });

  it('does not count brackets in strings, in keys and after escapes', () => {
    const brackets = '[{'.repeat(100);
    for (const text of [
      JSON.stringify(brackets),
      JSON.stringify([`\\"${brackets}`, `"${brackets}`, `${brackets}\\`]),
      JSON.stringify({ [`${brackets}"`]: 1 }),
      `["\\u005b\\\\", "${brackets}"]`,
    ]) {
      expect(parse(text, 2)).toEqual(JSON.parse(text));
    }
  });

  it('sees the end of a string after an escaped backslash', () => {
    expect(() => parse(`["\\\\", ${'['.repeat(9)}${']'.repeat(9)}]`, 9)).toThrow(/9 levels/);
  });

  it.each(['', ' ', '{', '{"a":1,}', "{'a':1}", 'undefined', '[1]]', '"\n"', '\uFEFF{}'])(
    'rejects %j as invalid JSON',
    (text) => {
      expect(() => parse(text)).toThrow(new JsonError('not valid JSON'));
    },
  );

  it('returns a value or throws a JsonError, for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300, size: 'max' }), fc.nat({ max: 70 }), (bytes, maxDepth) => {
        try {
          expect(depthOf(parseJson(Buffer.from(bytes), maxDepth).value)).toBeLessThanOrEqual(maxDepth);
        } catch (error) {
          expect(error).toBeInstanceOf(JsonError);
        }
      }),
    );
  });
});
