import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Condition } from '../visibility/authorizer.js';
import type { Compilation } from '../visibility/compiling/compiled-expression.js';
import { TypedRow } from '../visibility/compiling/predicate.js';
import { familyOf } from '../visibility/compiling/typed-values.js';
import { TableSubscriptions } from './table-subscriptions.js';

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

/** `room = n`, `room <> n`, or what only PostgreSQL evaluates. */
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

function serial(texts: readonly string[]): string[] {
  return texts.toSorted((a, b) => (a < b ? -1 : 1));
}

/** What a table's subscriptions answer, for each room. */
function answers(subscriptions: TableSubscriptions, places: readonly string[]) {
  const ids = (entries: Iterable<{ subscription: Subscription }>) =>
    serial([...entries].map(({ subscription }) => subscription.id));
  return {
    isEmpty: subscriptions.isEmpty,
    hasAlways: subscriptions.hasUnconditional,
    places: serial([...subscriptions.targets].map(String)),
    withAlways: serial([...subscriptions.targetsWithUnconditional].map(String)),
    unconditional: ids(subscriptions.unconditional()),
    of: places.map((columnIndex) => [
      ids(subscriptions.of(columnIndex)),
      ids(subscriptions.unconditionalOf(columnIndex)),
    ]),
    asked: serial(
      subscriptions.conditionsInPostgres.map(
        ({ sql }) => `${sql}: ${ids(subscriptions.withCondition(sql)).join()}`,
      ),
    ),
    candidates: ['0', '1', '2', '3', null].map((room) => {
      const found = [...subscriptions.candidates(new TypedRow([room]), () => true)];
      return serial(
        found.map(({ subscription: { id }, test }) => `${id} ${test?.(new TypedRow([room]), [])}`),
      );
    }),
  };
}

describe('the subscriptions of a table', () => {
  it('are after any changes what they would be if they had been so from the beginning', async () => {
    const places = ['a', 'b', 'c'];
    const one = fc.record({
      id: fc.nat(5).map(String),
      columnIndex: fc.constantFrom(...places),
      condition: conditions,
    });
    const states = fc.array(fc.uniqueArray(one, { selector: ({ id }) => id }), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(states, async (all) => {
        const changed = new TableSubscriptions(authorizer, FACTS);
        // One that is told again is the same object, with another condition where its own has become another.
        const known = new Map<string, { -readonly [Key in keyof Subscription]: Subscription[Key] }>();
        for (const state of all) {
          const now = state.map(({ id, columnIndex, condition }) => {
            const key = `${id} ${columnIndex}`;
            const subscription = known.get(key) ?? ({ id } as Subscription);
            known.set(key, subscription);
            if (known.get(key)?.condition?.sql !== condition?.sql || condition === null)
              Object.assign(subscription, { condition });
            return [columnIndex, subscription] as const;
          });
          await changed.update(now);
          const anew = new TableSubscriptions(authorizer, FACTS);
          await anew.update(now);
          expect(answers(changed, places)).toEqual(answers(anew, places));
        }
      }),
    );
  });
});
