import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatDuration, MAX_DURATION_MS, parseDuration } from './duration.js';

describe('parsing durations', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['5m', 300_000],
    ['24h', 86_400_000],
    ['365d', MAX_DURATION_MS],
    ['1h30m', 5_400_000],
    ['1d2h3m4s5ms', 93_784_005],
    ['90s', 90_000],
  ])('%s is %d ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each([
    '',
    '30',
    's',
    '0s',
    '0ms',
    '-5s',
    '+5s',
    '1.5h',
    '5 m',
    ' 5m',
    '5m ',
    '5M',
    '30m1h',
    '5s5s',
    '1w',
    '1e3s',
  ])('rejects the text "%s"', (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });

  it('rejects more than 365 days in every notation', () => {
    for (const text of ['366d', '365d1ms', '8761h', `${'9'.repeat(400)}s`])
      expect(parseDuration(text)).toBeUndefined();
  });

  it('reads back every formatted duration as the same number', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: MAX_DURATION_MS }),
        (ms) => parseDuration(formatDuration(ms)) === ms,
      ),
    );
  });

  it('returns only whole milliseconds within bounds, for any text', () => {
    const near = fc.stringMatching(/^[-+. ]?\d{0,4}[dhmsw]{0,2}\d{0,3}[dhms]{0,2}$/);
    fc.assert(
      fc.property(fc.oneof(near, fc.string()), (text) => {
        const ms = parseDuration(text);
        return (
          ms === undefined ||
          (Number.isInteger(ms) && ms > 0 && ms <= MAX_DURATION_MS && /^[\ddhms]+$/.test(text))
        );
      }),
    );
  });
});
