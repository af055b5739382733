import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatSize, parseSize } from './size.js';

describe('parsing sizes', () => {
  it.each([
    ['0', 0],
    ['512', 512],
    ['512B', 512],
    ['64KB', 65_536],
    ['64kb', 65_536],
    ['1MB', 1_048_576],
    ['2GB', 2_147_483_648],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    '',
    'KB',
    '-1',
    '+1',
    '1.5MB',
    '1 MB',
    ' 1MB',
    '1TB',
    '1K',
    '1KiB',
    '1e3',
    '0x10',
    '9'.repeat(30),
  ])('rejects the text "%s"', (text) => {
    expect(parseSize(text)).toBeUndefined();
  });

  it('formats bytes in the largest unit that divides them', () => {
    expect([65_536, 1_500, 3 * 1024 ** 3, 0].map(formatSize)).toEqual(['64KB', '1500B', '3GB', '0B']);
  });

  it('reads back every formatted size as the same number', () => {
    const bytes = fc.oneof(
      fc.maxSafeNat(),
      fc.integer({ min: 0, max: 4096 }).map((n) => n * 1024 ** 2),
    );
    fc.assert(fc.property(bytes, (size) => parseSize(formatSize(size)) === size));
  });

  it('returns only whole numbers, for any text', () => {
    const near = fc.stringMatching(/^[-+. ]?\d{0,20}[KMGBTkib ]{0,3}$/);
    fc.assert(
      fc.property(fc.oneof(near, fc.string()), (text) => {
        const bytes = parseSize(text);
        return (
          bytes === undefined || (Number.isSafeInteger(bytes) && bytes >= 0 && /^\d+[KMG]?B?$/i.test(text))
        );
      }),
    );
  });
});
