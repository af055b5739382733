import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Reservation, SnapshotBudget } from './snapshot-budget.js';

const LIMITS = { perSnapshot: 16, perUser: 40, total: 100 };
const USERS = ['ann', 'bob', 'cat', 'dan'];

const step = fc.oneof(
  fc.record({ do: fc.constant('reserve' as const), user: fc.constantFrom(...USERS) }),
  fc.record({ do: fc.constant('settle' as const), of: fc.nat(), bytes: fc.integer({ min: 0, max: 16 }) }),
  fc.record({ do: fc.constant('release' as const), of: fc.nat() }),
);

describe('the budget of snapshots', () => {
  it('is never exceeded by a user or in all, and always returned', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const budget = new SnapshotBudget(LIMITS);
        let returned = 0;
        budget.onReturned(() => {
          returned += 1;
        });
        const held: { user: string; bytes: number; reservation: Reservation }[] = [];
        const sum = (user?: string) =>
          held.reduce((all, each) => all + (user === undefined || each.user === user ? each.bytes : 0), 0);
        for (const next of steps) {
          if (next.do === 'reserve') {
            const fits = sum(next.user) + 16 <= 40 && sum() + 16 <= 100;
            expect(budget.hasRoom(next.user)).toBe(fits);
            if (fits) held.push({ user: next.user, bytes: 16, reservation: budget.reserve(next.user) });
            else expect(() => budget.reserve(next.user)).toThrow('used up');
          } else {
            const one = held[next.of % Math.max(held.length, 1)];
            if (one === undefined) continue;
            const bytes = next.do === 'settle' ? Math.min(next.bytes, one.bytes) : 0;
            const before = returned;
            if (next.do === 'settle') one.reservation.settle(next.bytes);
            else one.reservation.release();
            expect(returned - before).toBe(bytes < one.bytes ? 1 : 0);
            one.bytes = bytes;
          }
          expect(budget.bytes).toBe(sum());
          expect(budget.bytes).toBeLessThanOrEqual(100);
        }
        for (const { reservation } of held) {
          reservation.release();
          reservation.release();
        }
        expect([budget.bytes, ...USERS.map((user) => budget.hasRoom(user))]).toEqual([
          0,
          true,
          true,
          true,
          true,
        ]);
      }),
    );
  });
});
