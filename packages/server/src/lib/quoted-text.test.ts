import fc from 'fast-check';
import { expect, test } from 'vitest';
import { quotedText } from './quoted-text.js';

test.each([
  ['https://app.example', '"https://app.example"'],
  ['a "quoted" \\ text', '"a \\"quoted\\" \\\\ text"'],
  ['two\nlines\u2028and\u001b[31mcolour', '"two\\nlines\\u{2028}and\\u001b[31mcolour"'],
  ['right\u202eleft \ud800', '"right\\u{202e}left \\ud800"'],
  ['x'.repeat(101), `"${'x'.repeat(100)}…"`],
])('%j is quoted as %s', (text, expected) => {
  expect(quotedText(text)).toBe(expected);
});

test('every text becomes one line of printable characters, of limited length', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (text) => {
      const line = quotedText(text);
      expect(line.length).toBeLessThan(100 * 9);
      expect(line).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    }),
  );
});
