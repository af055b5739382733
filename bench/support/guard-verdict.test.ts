import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Measure, verdict } from './guard-verdict.mjs';

/** Rounds with these ratios, over a steady baseline. */
const rounds = (...ratios: number[]) => ratios.map((ratio) => ({ ours: ratio * 1_000, baseline: 1_000 }));
const statusOf = (better: Measure['better'], bound: number, all: Measure['rounds']) =>
  verdict({ better, bound, rounds: all }).status;

describe('a measure of the guard', () => {
  it('fails when all of its rounds are beyond the bound by more than a third', () => {
    expect(statusOf('higher', 0.6, rounds(0.39, 0.2, 0.39))).toBe('failed');
    expect(statusOf('higher', 0.6, rounds(0.39, 0.41, 0.39))).toBe('passed');
    expect(statusOf('lower', 0.3, rounds(0.41, 0.5, 0.41))).toBe('failed');
    expect(statusOf('lower', 0.3, rounds(0.41, 0.39, 0.41))).toBe('passed');
  });

  it('is void when the rounds of its baseline differ by more than a quarter', () => {
    const slow = [
      { ours: 100, baseline: 1_000 },
      { ours: 100, baseline: 1_000 },
      { ours: 100, baseline: 1_260 },
    ];
    expect(statusOf('higher', 0.6, slow)).toBe('void');
    expect(statusOf('higher', 0.6, [...slow.slice(0, 2), { ours: 100, baseline: 1_240 }])).toBe('failed');
    expect(statusOf('lower', 0.6, [{ ours: Number.NaN, baseline: Number.NaN }])).toBe('void');
  });

  it('never fails because of one round, and never passes because of its baseline alone', () => {
    const ratio = fc.double({ min: 0.01, max: 10, noNaN: true });
    fc.assert(
      fc.property(
        fc.constantFrom('higher' as const, 'lower' as const),
        ratio,
        ratio,
        ratio,
        (better, ...all) => {
          const bound = 1;
          const { status, limit } = verdict({ better, bound, rounds: rounds(...all) });
          const isWithin = (one: number) => (better === 'higher' ? one >= limit : one <= limit);
          expect(status).toBe(all.some(isWithin) ? 'passed' : 'failed');
        },
      ),
    );
  });
});
