import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { familyOf } from './type-families.js';

/** A decimal with three fraction digits, written with extra zeros. */
const decimal = fc
  .tuple(fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), fc.nat(3), fc.nat(3))
  .map(([thousandths, before, behind]) => {
    const digits = String(thousandths < 0n ? -thousandths : thousandths).padStart(4, '0');
    const sign = thousandths < 0n ? '-' : '';
    const text = `${sign}${'0'.repeat(before)}${digits.slice(0, -3)}.${digits.slice(-3)}${'0'.repeat(behind)}`;
    return { thousandths, text };
  });

describe('numbers', () => {
  const { parse, compare } = familyOf('number');

  it('compare by value, with any extra zeros and of any length', () => {
    fc.assert(
      fc.property(decimal, decimal, (a, b) => {
        const order = Math.sign(compare(parse(a.text), parse(b.text)));
        expect(order).toBe(a.thousandths < b.thousandths ? -1 : a.thousandths > b.thousandths ? 1 : 0);
        expect(parse(a.text) === parse(b.text)).toBe(a.thousandths === b.thousandths);
      }),
    );
  });

  it('order NaN last and equal to itself, and infinities first and last', () => {
    const order = ['-Infinity', '-10', '-0.5', '0', '0.05', '9', '10', 'Infinity', 'NaN'];
    for (const [n, a] of order.entries())
      for (const [m, b] of order.entries())
        expect(Math.sign(compare(parse(a), parse(b))), `${a} compared with ${b}`).toBe(Math.sign(n - m));
    expect(parse('-0.00')).toBe(parse('0'));
  });

  it('with the most digits that PostgreSQL allows are read in linear time', () => {
    const fraction = '0'.repeat(16_382);
    const texts = [
      `0.${fraction}1`,
      `-${'9'.repeat(131_072)}.${fraction}1`,
      `${'10'.repeat(65_536)}.${fraction}0`,
    ];
    const start = performance.now();
    for (let n = 0; n < 20; n++)
      expect(texts.map(parse)).toEqual([...texts.slice(0, 2), '10'.repeat(65_536)]);
    // Reading each zero again for each digit takes some hundred times as long.
    expect(performance.now() - start).toBeLessThan(1_000);
  });
});

describe('times', () => {
  const { parse, compare } = familyOf('timestamptz');

  it('become microseconds since 1970', () => {
    const ms = fc.integer({ min: -60_000_000_000_000, max: 250_000_000_000_000 });
    fc.assert(
      fc.property(ms, fc.nat(999), (milliseconds, micros) => {
        const [, day, time] = /^(.*)T(.*)Z$/.exec(new Date(milliseconds).toISOString()) ?? [];
        const text = `${day} ${time}${String(micros).padStart(3, '0')}+00`;
        expect(parse(text)).toBe(BigInt(milliseconds) * 1000n + BigInt(micros));
      }),
    );
  });

  test.each([
    ['2025-06-01 02:00:00+02', '2025-06-01 00:00:00+00'],
    ['1883-11-18 12:00:00-05:50:36', '1883-11-18 17:50:36+00'],
    ['0001-01-01 00:00:00+00 BC', '0001-01-01 00:00:00+00 BC'],
  ])('%s equals %s', (a, b) => {
    expect(parse(a)).toBe(parse(b));
  });

  it('are ordered across years before Christ, with infinities first and last', () => {
    const order = [
      '-infinity',
      '4713-01-01 00:00:00+00 BC',
      '0001-12-31 00:00:00+00 BC',
      '0001-01-01 00:00:00+00',
      'infinity',
    ];
    for (const [n, text] of order.entries())
      if (n > 0) expect(compare(parse(order[n - 1] ?? ''), parse(text))).toBeLessThan(0);
  });

  it('in another date style cause an error and not a wrong time', () => {
    expect(() => parse('01/06/2025')).toThrow('another style');
  });
});
