import fc from 'fast-check';
import { expect, test } from 'vitest';
import { columnsOf, type RowShape } from './row-shape.js';

const shape = (highest: number, ...numbers: number[]): RowShape => ({
  highest,
  columns: numbers.map((number) => ({
    number,
    name: `c${number}`,
    typeOid: 25,
    typeModifier: -1,
    isGenerated: false,
  })),
});

test.each<
  [what: string, before: RowShape | undefined, now: RowShape, fields: number, numbers: number[] | undefined]
>([
  ['nothing changed', shape(2, 1, 2), shape(2, 1, 2), 2, [1, 2]],
  ['of another length than there ever was', shape(2, 1, 2), shape(2, 1, 2), 3, undefined],
  ['the first look', undefined, shape(2, 1, 2), 2, [1, 2]],
  ['before the first look', undefined, shape(3, 1, 2, 3), 2, undefined],
  ['of before a column was added', shape(2, 1, 2), shape(3, 1, 2, 3), 2, [1, 2]],
  ['between two that were added', shape(1, 1), shape(3, 1, 2, 3), 2, [1, 2]],
  ['of before a column was dropped', shape(3, 1, 2, 3), shape(3, 1, 3), 3, [1, 2, 3]],
  ['of after it', shape(3, 1, 2, 3), shape(3, 1, 3), 2, [1, 3]],
  ['one was dropped, one added: as many as before', shape(2, 1, 2), shape(3, 1, 3), 2, undefined],
  ['one was added and dropped again', shape(2, 1, 2), shape(3, 1, 2), 2, undefined],
])('the columns of a row: %s', (_, before, now, fields, numbers) => {
  expect(columnsOf(fields, before, now)?.map(({ number }) => number)).toEqual(numbers);
});

test('whatever is done to a table between two looks, no value gets another column', () => {
  const steps = fc.array(fc.oneof(fc.constant('add' as const), fc.nat({ max: 5 })), { maxLength: 6 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), steps, fc.nat(), (width, changes, pick) => {
      let highest = width;
      let numbers = Array.from({ length: width }, (_, n) => n + 1);
      const states = [numbers];
      for (const change of changes) {
        if (change === 'add') {
          highest += 1;
          numbers = [...numbers, highest];
        } else numbers = numbers.filter((_, n) => n !== change);
        states.push(numbers);
      }
      const written = states[pick % states.length] ?? [];
      const told = columnsOf(written.length, shape(width, ...(states[0] ?? [])), shape(highest, ...numbers));
      if (told !== undefined) expect(told.map(({ number }) => number)).toEqual(written);
    }),
    { numRuns: 5_000 },
  );
});
