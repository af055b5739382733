import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AcknowledgementDelay, type Mark } from './acknowledgement-delay.js';

const mark = (lsn: number, at: number): Mark => ({ lsn: BigInt(lsn), at, transactions: lsn });

describe('the resume window', () => {
  it('holds a position back until it is older than its time or farther than its bytes', () => {
    const window = new AcknowledgementDelay({ ms: 100, bytes: 1_000 });
    for (const [lsn, at] of [
      [10, 0],
      [20, 50],
      [30, 90],
    ] as const)
      window.mark(mark(lsn, at));
    expect(window.passed(99, 100n)).toBeUndefined();
    expect(window.passed(100, 100n)?.lsn).toBe(10n);
    expect(window.passed(155, 100n)?.lsn).toBe(20n);
    expect(window.passed(156, 1_029n)).toBeUndefined();
    expect(window.passed(156, 1_030n)?.lsn).toBe(30n);
    expect(window.passed(10_000, 10_000n)).toBeUndefined();
  });

  it('of zero size holds nothing back, and changed limits apply at once', () => {
    const window = new AcknowledgementDelay({ ms: 1_000, bytes: 1_000 });
    window.mark(mark(10, 0));
    expect(window.passed(1, 11n)).toBeUndefined();
    window.limits = { ms: 0, bytes: 0 };
    expect(window.passed(1, 11n)?.lsn).toBe(10n);
  });

  it('never goes back, and never releases a position that both limits still hold', () => {
    const steps = fc.array(fc.tuple(fc.nat(50), fc.nat(200)), { maxLength: 60 });
    fc.assert(
      fc.property(steps, fc.nat(100), fc.nat(500), (moves, ms, bytes) => {
        const window = new AcknowledgementDelay({ ms, bytes });
        let [now, end, last] = [0, 0, -1n];
        const all: Mark[] = [];
        for (const [time, way] of moves) {
          now += time;
          end += way;
          const made = mark(end, now);
          window.mark(made);
          all.push(made);
          const passed = window.passed(now, BigInt(end));
          if (passed === undefined) continue;
          expect(passed.lsn).toBeGreaterThan(last);
          last = passed.lsn;
          expect(now - passed.at >= ms || BigInt(end) - passed.lsn >= BigInt(bytes)).toBe(true);
        }
        // Every position that exceeds a limit has been released.
        const free = all.filter(({ at, lsn }) => now - at >= ms || BigInt(end) - lsn >= BigInt(bytes));
        if (moves.length > 0) expect(last).toBe(free.at(-1)?.lsn ?? -1n);
      }),
    );
  });
});
