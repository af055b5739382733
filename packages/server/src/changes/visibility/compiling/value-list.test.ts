import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Value } from './type-families.js';
import { changeList, emptyList, listOf } from './value-list.js';

const value = fc.option(fc.constantFrom<Value>('a', 'b', 1n), { nil: null });

it('a list that is changed value by value equals the list of the remaining values', () => {
  const step = fc.oneof(
    { weight: 5, arbitrary: value.map((added) => ({ added })) },
    { weight: 4, arbitrary: fc.nat().map((removed) => ({ removed })) },
    { weight: 1, arbitrary: fc.constant('empty' as const) },
  );
  fc.assert(
    fc.property(fc.array(value), fc.array(step), (first, steps) => {
      const values = [...first];
      const list = listOf(values);
      for (const one of steps) {
        if (one === 'empty') {
          values.length = 0;
          emptyList(list);
        } else if ('added' in one) {
          values.push(one.added);
          changeList(list, one.added, 1);
        } else if (values.length > 0) {
          const [gone = null] = values.splice(one.removed % values.length, 1);
          changeList(list, gone, -1);
        }
        const { values: distinct, hasNull } = listOf(values);
        expect([list.values, list.hasNull]).toEqual([distinct, hasNull]);
      }
    }),
  );
});
