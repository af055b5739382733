import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConditionBudget, type ConditionCost } from './condition-budget.js';

const PAYERS = ['ada', 'bob'];

const anyCost: fc.Arbitrary<ConditionCost<string>> = fc
  .record({
    payer: fc.constantFrom(...PAYERS),
    n: fc.nat(2),
    ms: fc.nat(700),
    medianMs: fc.constantFrom(0.1, 9.9, 10, 200),
  })
  .map(({ n, ...cost }) => ({ ...cost, subscription: `${cost.payer} ${n}` }));
/** Batches, each some time after the one before. */
const anyBatches = fc.array(
  fc.record({ afterMs: fc.nat(4_000), costs: fc.array(anyCost, { maxLength: 4 }) }),
  { maxLength: 20 },
);

/** What was charged, in the second in which it was, and whether its subscription has ended since. */
interface Charge extends ConditionCost<string> {
  readonly second: number;
  hasEnded: boolean;
}

/** Charges the batches; for each, returns what was ended, and everything in the window before that. */
function run(batches: readonly { afterMs: number; costs: readonly ConditionCost<string>[] }[]) {
  let now = 0;
  const budget = new ConditionBudget<string>(() => now);
  let charges: Charge[] = [];
  return batches.map(({ afterMs, costs }) => {
    now += afterMs;
    const second = Math.floor(now / 1_000);
    charges.push(...costs.map((cost) => ({ ...cost, second, hasEnded: false })));
    charges = charges.filter((charge) => charge.second > second - 10 && charge.medianMs < 10);
    const counted = charges.map((charge) => ({ ...charge }));
    const ended = budget.charge(costs);
    for (const charge of charges) if (ended.includes(charge.subscription)) charge.hasEnded = true;
    return { ended, counted, costs };
  });
}

const sum = (charges: readonly Charge[]) => charges.reduce((all, { ms }) => all + ms, 0);
/** What the costliest of the charged subscriptions has cost, of those that have not ended. */
const mostOf = (charges: readonly Charge[]) => {
  const going = charges.filter(({ hasEnded }) => !hasEnded);
  const costOf = (id: string) => sum(going.filter(({ subscription }) => subscription === id));
  return Math.max(0, ...going.map(({ subscription }) => costOf(subscription)));
};

describe('the budget of conditions', () => {
  it('ends a subscription exactly when its payer has cost over a second in the last ten, in fast calls', () => {
    fc.assert(
      fc.property(anyBatches, (batches) => {
        for (const { ended, counted, costs } of run(batches)) {
          const over = PAYERS.filter((payer) => {
            const own = counted.filter((charge) => charge.payer === payer);
            const isCharged = costs.some((cost) => cost.payer === payer && cost.medianMs < 10);
            const isOver = sum(own.filter(({ hasEnded }) => !hasEnded)) > 1_000;
            return isCharged && (isOver || (sum(own) > 1_000 && mostOf(own) > 100));
          });
          expect(ended.map((subscription) => subscription.split(' ')[0]).sort()).toEqual(over);
        }
      }),
    );
  });

  it('ends the subscription of the payer that has cost the most', () => {
    fc.assert(
      fc.property(anyBatches, (batches) => {
        for (const { ended, counted } of run(batches))
          for (const subscription of ended) {
            const [payer] = subscription.split(' ');
            const going = counted.filter(({ hasEnded }) => !hasEnded);
            const cost = sum(going.filter((charge) => charge.subscription === subscription));
            expect(cost).toBe(mostOf(going.filter((charge) => charge.payer === payer)));
          }
      }),
    );
  });

  it('ends a user’s next slow subscription sooner, and lets the fast ones go on', () => {
    const budget = new ConditionBudget<string>(() => 0);
    const cost = (subscription: string, ms: number) => ({ payer: 'ada', subscription, ms, medianMs: 1 });
    expect(budget.charge([cost('fast', 90), cost('slow', 1_001)])).toEqual(['slow']);
    expect(budget.charge([cost('fast', 1), cost('again', 99)])).toEqual([]);
    expect(budget.charge([cost('fast', 1), cost('again', 99)])).toEqual(['again']);
    expect(budget.charge([cost('fast', 1)])).toEqual([]);
  });

  it('never ends a subscription whose payer takes a tenth of the time, however long that goes on', () => {
    let now = 0;
    const budget = new ConditionBudget<string>(() => now);
    const cost = { payer: 'ada', subscription: 's', ms: 50, medianMs: 1 };
    for (now = 0; now < 60_000; now += 500) expect(budget.charge([cost])).toEqual([]);
    now -= 250;
    expect(budget.charge([cost])).toEqual(['s']);
  });

  it('forgets payers that have cost nothing for a while', () => {
    let now = 0;
    const budget = new ConditionBudget<string>(() => now);
    for (; now < 100_000; now += 1_000)
      budget.charge([{ payer: `user ${now}`, subscription: `s ${now}`, ms: 1, medianMs: 1 }]);
    expect(budget.size).toBeLessThan(25);
  });
});
