import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { callsByTurns, medianOfCall } from './condition-turns.js';

const requestOf = (payer: string, sql = payer) => ({
  condition: { sql, columns: [] },
  rows: [0],
  payers: [payer],
});

describe('the calls for conditions', () => {
  it('have each condition once, and no payer two more than another that has conditions left', () => {
    const anyPayers = fc.array(fc.constantFrom('ada', 'bob', 'eve', 'joe'), { maxLength: 60 });
    fc.assert(
      fc.property(anyPayers, fc.integer({ min: 1, max: 9 }), (payers, size) => {
        const requests = payers.map((payer, n) => requestOf(payer, `${payer} ${n}`));
        const calls = callsByTurns(requests, size);
        expect(new Set(calls.flat())).toEqual(new Set(requests));
        expect(calls.flat()).toHaveLength(requests.length);
        expect(calls.slice(0, -1).every((call) => call.length === size)).toBe(true);
        const left = new Map<string, number>();
        for (const payer of payers) left.set(payer, (left.get(payer) ?? 0) + 1);
        const asked = new Map([...left.keys()].map((payer) => [payer, 0]));
        for (const {
          payers: [payer = ''],
        } of calls.flat()) {
          asked.set(payer, (asked.get(payer) ?? 0) + 1);
          left.set(payer, (left.get(payer) ?? 0) - 1);
          for (const [other, count] of left)
            if (count > 0) expect(asked.get(payer)).toBeLessThanOrEqual((asked.get(other) ?? 0) + 1);
        }
      }),
    );
  });

  it('are slow if the conditions of most payers are, and not if one payer has many slow ones', () => {
    const own = Array.from({ length: 20 }, () => requestOf('eve'));
    const slow = own.map(() => 500);
    expect(medianOfCall(own, slow, 0.1)).toBe(0.1);
    expect(medianOfCall([...own, requestOf('ada')], [...slow, 2], 0.1)).toBe(2);
    const others = [requestOf('ada'), requestOf('bob')];
    expect(medianOfCall([...own, ...others], [...slow, 30, 40], 0.1)).toBe(30);
    expect(medianOfCall(own, slow, 20)).toBe(20);
  });
});
