import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { LikePattern } from './like-pattern.js';
import { LikeSearch } from './like-search.js';

const ENOUGH = 1_000_000_000;

function isLike(text: string, pattern: string): boolean | undefined {
  return compiled(pattern).matches(text, new LikeSearch(ENOUGH));
}

function compiled(pattern: string): LikePattern {
  const like = LikePattern.of(pattern);
  if (like === undefined) throw new Error('not a LIKE pattern');
  return like;
}

/** Evaluates LIKE by its definition: the characters that each step of the pattern can end at. */
function byDefinition(text: readonly string[], pattern: readonly string[]): boolean {
  let ends = new Set([0]);
  for (const step of pattern) {
    const next = new Set<number>();
    for (const end of ends) {
      if (step === '%') for (let n = end; n <= text.length; n++) next.add(n);
      else if (end < text.length && (step === '_' || step === text[end])) next.add(end + 1);
    }
    ends = next;
  }
  return ends.has(text.length);
}

/** The longest segment of a pattern without escapes, in words of 32 characters. */
function longestWords(pattern: string): number {
  return Math.max(1, ...pattern.split('%').map((segment) => Math.ceil(Array.from(segment).length / 32)));
}

const character = fc.constantFrom('a', 'a', 'a', 'b', 'é', '\uffff', '\u{1f600}', '\u{1f601}');
const run = fc.tuple(character, fc.integer({ min: 30, max: 70 })).map(([one, n]) => Array(n).fill(one));
const many = (one: fc.Arbitrary<string>) =>
  fc.array(fc.oneof({ weight: 8, arbitrary: one.map((only) => [only]) }, run), { maxLength: 10 });
const texts = many(character).map((parts) => parts.flat() as string[]);
const patterns = many(fc.oneof(character, fc.constantFrom('_', '%', '%'))).map(
  (parts) => parts.flat() as string[],
);
/** A text with the segments of the pattern in it, and often something between them. */
const matching = patterns.chain((pattern) =>
  fc
    .tuple(...pattern.map((step) => (step === '%' ? texts : step === '_' ? character : fc.constant(step))))
    .map((parts) => ({ pattern, text: parts.flat() as string[] })),
);
const cases = fc.oneof(fc.record({ pattern: patterns, text: texts }), matching);

describe('LIKE', () => {
  it('matches as its definition says, in at most as many steps as characters, times the words of a segment', () => {
    let [matched, missed] = [0, 0];
    fc.assert(
      fc.property(cases, ({ text, pattern }) => {
        const search = new LikeSearch(ENOUGH);
        const isMatch = compiled(pattern.join('')).matches(text.join(''), search);
        expect(isMatch).toBe(byDefinition(text, pattern));
        // Characters beyond the Basic Multilingual Plane count as the two code units that they are.
        expect(ENOUGH - search.steps).toBeLessThanOrEqual(
          text.join('').length * longestWords(pattern.join('')),
        );
        if (isMatch) matched += 1;
        else missed += 1;
      }),
      { numRuns: 2_000 },
    );
    expect(Math.min(matched, missed)).toBeGreaterThan(300);
  });

  it('with fewer steps gives the same answer or none, and takes no more than there are', () => {
    let undecided = 0;
    fc.assert(
      fc.property(cases, fc.nat(300), ({ text, pattern }, steps) => {
        const search = new LikeSearch(steps);
        const isMatch = compiled(pattern.join('')).matches(text.join(''), search);
        if (isMatch === undefined) undecided += 1;
        else expect(isMatch).toBe(byDefinition(text, pattern));
        // A character of two code units may be read with the last step.
        expect(search.steps).toBeGreaterThanOrEqual(-longestWords(pattern.join('')));
      }),
      { numRuns: 1_000 },
    );
    expect(undecided).toBeGreaterThan(20);
  });

  test.each([
    ['a%b', 'a\\%b', true],
    ['axb', 'a\\%b', false],
    ['a_b', 'a\\_b', true],
    ['axb', 'a\\_b', false],
    ['\\', '\\\\', true],
    ['ab', 'a\\b', true],
    ['\u{1f600}', '\\\u{1f600}', true],
    ['\u{1f600}', '_', true],
    ['\u{1f600}', '__', false],
    ['\u{1f600}\u{1f601}', '%\u{1f601}', true],
    ['', '%', true],
    ['', '_', false],
    ['', '', true],
    ['a', '', false],
    ['aa', 'a%a', true],
    ['a', 'a%a', false],
    ['aba', 'ab%ba', false],
  ])('%j LIKE %j is %s', (text, pattern, expected) => {
    expect(isLike(text, pattern)).toBe(expected);
  });

  it('has no compiled pattern that ends in the middle of an escape', () => {
    const isPattern = (text: string) => LikePattern.of(text) !== undefined;
    expect(['a\\', 'a\\\\', '%\\', '\\\\\\'].map(isPattern)).toEqual([false, true, false, false]);
  });

  test.each([
    [`%${'a'.repeat(4_000)}b%`, 2],
    [`%${'%a'.repeat(500)}%b%`, 1],
    [`%${'_'.repeat(1_000)}b%`, 32],
    [`%${'a_'.repeat(500)}b%`, 32],
    [`${'%_a'.repeat(300)}%b%`, 1],
    ['%ab%', 1],
  ])('takes linear steps for a hostile pattern: %.12s', (pattern, words) => {
    const search = new LikeSearch(ENOUGH);
    expect(compiled(pattern).matches('a'.repeat(100_000), search)).toBe(false);
    expect(ENOUGH - search.steps).toBeLessThanOrEqual(100_000 * words);
    expect(ENOUGH - search.steps).toBeGreaterThan(50_000);
  });
});
