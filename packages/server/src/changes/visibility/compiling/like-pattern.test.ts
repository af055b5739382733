import fc from 'fast-check';
import { expect, it, test } from 'vitest';
import { isLike, isPattern } from './like-pattern.js';

/** The same by the definition: every way to cut the text is tried. */
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

it('is what the definition says', () => {
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
])('%j LIKE %j is %s', (text, pattern, wanted) => {
  expect(isLike(text, pattern)).toBe(wanted);
});

it('takes no pattern that ends in the middle of an escape', () => {
  expect([isPattern('a\\'), isPattern('a\\\\')]).toEqual([false, true]);
});

it('is not slow for a hostile pattern', () => {
  expect(isLike('a'.repeat(10_000), `${'%a'.repeat(500)}b`)).toBe(false);
});
