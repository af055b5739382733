import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Condition } from '../visibility/authorizer.js';
import type { Compilation } from '../visibility/compiling/compiled-expression.js';
import { familyOf } from '../visibility/compiling/type-families.js';
import { TypedRow } from '../visibility/compiling/typed-row.js';
import { SubscriptionIndex } from './subscription-index.js';

const family = familyOf('number');
const FACTS: TableFacts = {
  oid: 1,
  schema: 'public',
  name: 'notes',
  kind: 'table',
  columns: [],
  primaryKey: [],
  identity: 'f',
  identityColumns: [],
};

/** `room = n`, `room <> n`, or a condition that only PostgreSQL evaluates. */
const conditions = fc.option(
  fc
    .tuple(fc.constantFrom('=', '<>', '~'), fc.nat(3))
    .map(([operator, room]) => ({ sql: `room ${operator} ${room}`, columns: ['room'] })),
);

const authorizer = {
  compileCondition: async (_: TableFacts, { sql }: Condition): Promise<Compilation> => {
    const [, operator, room = ''] = sql.split(' ');
    if (operator !== '=' && operator !== '<>') return { reason: 'it has the operator ~' };
    const left = { kind: 'column', columnIndex: 0, family } as const;
    const right = { kind: 'constant', value: family.parse(room), family } as const;
    return {
      compiled: { predicate: { kind: 'compare', operator, left, right }, parameters: [], memberships: [] },
    };
  },
};

function sorted(texts: readonly string[]): string[] {
  return texts.toSorted((a, b) => (a < b ? -1 : 1));
}

/** Returns everything that the index answers, for each target and each room. */
function answers(subscriptions: SubscriptionIndex, targets: readonly string[]) {
  const ids = (entries: Iterable<{ subscription: Subscription }>) =>
    sorted([...entries].map(({ subscription }) => subscription.id));
  return {
    isEmpty: subscriptions.isEmpty,
    hasUnconditional: subscriptions.hasUnconditional,
    targets: sorted([...subscriptions.targets].map(String)),
    targetsWithUnconditional: sorted([...subscriptions.targetsWithUnconditional].map(String)),
    unconditional: ids(subscriptions.unconditional()),
    of: targets.map((target) => [ids(subscriptions.of(target)), ids(subscriptions.unconditionalOf(target))]),
    candidates: ['0', '1', '2', '3', null].map((room) => {
      const found = [...subscriptions.candidates(new TypedRow([room]), () => true)];
      return sorted(
        found.map(({ entries, test }) => `${ids(entries).join()} ${test?.(new TypedRow([room]), [])}`),
      );
    }),
  };
}

describe('the subscriptions of a table', () => {
  it('give the same answers after any updates as when they are built in one step', async () => {
    const targets = ['a', 'b', 'c'];
    const anySubscription = fc.record({
      id: fc.nat(5).map(String),
      target: fc.constantFrom(...targets),
      condition: conditions,
    });
    const states = fc.array(fc.uniqueArray(anySubscription, { selector: ({ id }) => id }), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(states, async (allStates) => {
        const updated = new SubscriptionIndex(authorizer, FACTS);
        // A subscription that stays is the same object, with a new condition if the condition has changed.
        const known = new Map<string, { -readonly [Key in keyof Subscription]: Subscription[Key] }>();
        for (const state of allStates) {
          const now = state.map(({ id, target, condition }) => {
            const key = `${id} ${target}`;
            const subscription = known.get(key) ?? ({ id } as Subscription);
            known.set(key, subscription);
            if (known.get(key)?.condition?.sql !== condition?.sql || condition === null)
              Object.assign(subscription, { condition });
            return [target, subscription] as const;
          });
          await updated.update(now);
          const fresh = new SubscriptionIndex(authorizer, FACTS);
          await fresh.update(now);
          expect(answers(updated, targets)).toEqual(answers(fresh, targets));
        }
      }),
    );
  });
});

it('a thousand new conditions are compiled a few at a time, each once', async () => {
  let running = 0;
  let most = 0;
  const compiled: string[] = [];
  const counting = {
    compileCondition: async (table: TableFacts, condition: Condition) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      compiled.push(condition.sql);
      return authorizer.compileCondition(table, condition);
    },
  };
  const index = new SubscriptionIndex(counting, FACTS);
  const all = Array.from({ length: 1_000 }, (_, n) => {
    const condition = { sql: `room = ${n}`, columns: ['room'] };
    return ['lobby', { id: `s${n}`, condition } as unknown as Subscription] as const;
  });
  await index.update(all.map(([target, subscription]) => [target, subscription]));
  expect(new Set(compiled).size).toBe(1_000);
  expect(compiled).toHaveLength(1_000);
  expect(most).toBe(4);
});
