import fc from 'fast-check';
import { expect, it, test } from 'vitest';
import { isLike, isPattern } from './like-pattern.js';

/** Evaluates LIKE by its definition: tries every way to split the text. */
function byDefinition(text: readonly string[], pattern: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return text.length === 0;
  if (first === '%')
    return Array.from({ length: text.length + 1 }, (_, n) => n).some((n) =>
      byDefinition(text.slice(n), rest),
    );
  const isEqual = first === '_' || first === text[0];
  return text.length > 0 && isEqual && byDefinition(text.slice(1), rest);
}

it('LIKE matches as its definition says', () => {
  const letters = fc.array(fc.constantFrom('a', 'b', '\u{1f600}'), { maxLength: 8 });
  const steps = fc.array(fc.constantFrom('a', 'b', '\u{1f600}', '_', '%'), { maxLength: 6 });
  fc.assert(
    fc.property(letters, steps, (text, pattern) => {
      expect(isLike(text.join(''), pattern.join(''))).toBe(byDefinition(text, pattern));
    }),
  );
});

test.each([
  ['a%b', 'a\\%b', true],
  ['axb', 'a\\%b', false],
  ['a_b', 'a\\_b', true],
  ['\\', '\\\\', true],
  ['', '%', true],
  ['', '_', false],
])('%j LIKE %j is %s', (text, pattern, expected) => {
  expect(isLike(text, pattern)).toBe(expected);
});

it('a pattern that ends in the middle of an escape is not a pattern', () => {
  expect([isPattern('a\\'), isPattern('a\\\\')]).toEqual([false, true]);
});

it('LIKE is fast for a hostile pattern', () => {
  expect(isLike('a'.repeat(10_000), `${'%a'.repeat(500)}b`)).toBe(false);
});
