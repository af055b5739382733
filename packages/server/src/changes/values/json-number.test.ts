import fc from 'fast-check';
import { expect, it } from 'vitest';
import { numberJson } from './json-number.js';

it.each([
  ['0', '0'],
  ['-7', '-7'],
  ['1.50', '1.5'],
  ['0.1', '0.1'],
  ['9007199254740991', '9007199254740991'],
  ['9007199254740993', '"9007199254740993"'],
  ['12345678901234567890.123', '"12345678901234567890.123"'],
  ['1000000000000000000000', '1e+21'],
  ['NaN', '"NaN"'],
  ['-Infinity', '"-Infinity"'],
  ['1e-07', '1e-7'],
])('%s becomes %s in JSON', (text, json) => {
  expect(numberJson(text)).toBe(json);
});

it('a number stays a JSON number if and only if JavaScript prints the same decimal', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (number) => {
      expect(JSON.parse(numberJson(String(number)))).toBe(number === 0 ? 0 : number);
    }),
  );
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n }), fc.nat({ max: 6 }), (whole, zeros) => {
      const json = JSON.parse(numberJson(`${whole}${zeros > 0 ? `.${'0'.repeat(zeros)}` : ''}`)) as unknown;
      const isExact = String(Number(whole)) === String(whole);
      expect(typeof json).toBe(isExact ? 'number' : 'string');
    }),
  );
});

it('a number with the most digits that PostgreSQL allows is converted in linear time', () => {
  const text = `1${'0'.repeat(131_070)}1.${'0'.repeat(16_382)}1`;
  const start = performance.now();
  for (let n = 0; n < 10; n++) expect(numberJson(text)).toBe(`"${text}"`);
  const small = `0.${'0'.repeat(200)}1${'0'.repeat(16_000)}1`;
  for (let n = 0; n < 10; n++) expect(numberJson(small)).toBe(`"${small}"`);
  expect(performance.now() - start).toBeLessThan(1_000);
});
