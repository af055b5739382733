import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isNestedDeeper } from './nesting.js';

/** Counts the levels in the text: no string of these values has a bracket. */
function levels(json: string): number {
  let [deepest, depth] = [0, 0];
  for (const character of json) {
    if (character === '[' || character === '{') depth += 1;
    if (character === ']' || character === '}') depth -= 1;
    deepest = Math.max(deepest, depth);
  }
  return deepest;
}

test('a value is nested deeper than all limits below the number of its levels', () => {
  const value = fc.jsonValue({ maxDepth: 6, stringUnit: fc.constantFrom('a', 'b') });
  fc.assert(
    fc.property(value, fc.nat(7), (json, limit) => {
      expect(isNestedDeeper(json, limit)).toBe(levels(JSON.stringify(json)) > limit);
    }),
  );
});

test('a value of a million levels is found without recursion', () => {
  const value: unknown = JSON.parse('['.repeat(1_000_000) + ']'.repeat(1_000_000));
  expect(isNestedDeeper(value, 64)).toBe(true);
});
