import fc from 'fast-check';
import { expect, test } from 'vitest';
import { shownText } from './shown-text.js';

test.each([
  ['https://app.example', '"https://app.example"'],
  ['a "quoted" \\ text', '"a \\"quoted\\" \\\\ text"'],
  ['two\nlines\u2028and\u001b[31mcolour', '"two\\u{a}lines\\u{2028}and\\u{1b}[31mcolour"'],
  ['right\u202eleft \ud800', '"right\\u{202e}left \\u{d800}"'],
  ['x'.repeat(101), `"${'x'.repeat(100)}…"`],
])('%j is shown as %s', (text, shown) => {
  expect(shownText(text)).toBe(shown);
});

test('any text is one bounded line of printable characters', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (text) => {
      const shown = shownText(text);
      expect(shown.length).toBeLessThan(100 * 9);
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    }),
  );
});
