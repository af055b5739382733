import { describe, expect, it } from 'vitest';
import { IdSource } from './ids.js';

describe('an id source', () => {
  it('makes message ids of msg_, the time and nine letters and digits', () => {
    expect(new IdSource().message(1_736_937_000_000)).toMatch(/^msg_1736937000000_[a-z0-9]{9}$/);
  });

  it('makes ids of the requested length, also beyond one block of entropy', () => {
    const ids = new IdSource();
    expect([0, 1, 9, 8_191, 8_192, 20_000].map((length) => ids.random(length).length)).toEqual([
      0, 1, 9, 8_191, 8_192, 20_000,
    ]);
  });

  it('does not repeat ids, within one source or across sources', () => {
    const sources = [new IdSource(), new IdSource()];
    const seen = new Set(sources.flatMap((ids) => Array.from({ length: 20_000 }, () => ids.random(9))));
    expect(seen.size).toBe(40_000);
  });

  it('uses every letter and digit about equally often', () => {
    const counts = new Map<string, number>();
    for (const letter of new IdSource().random(360_000)) counts.set(letter, (counts.get(letter) ?? 0) + 1);
    expect([...counts.keys()].sort().join('')).toBe('0123456789abcdefghijklmnopqrstuvwxyz');
    for (const count of counts.values()) expect(Math.abs(count - 10_000)).toBeLessThan(2_000);
  });
});
