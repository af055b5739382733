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
  ['the current ones when nothing changed', shape(2, 1, 2), shape(2, 1, 2), 2, [1, 2]],
  ['undetermined when neither shape has that many fields', shape(2, 1, 2), shape(2, 1, 2), 3, undefined],
  ['the current ones without an earlier shape', undefined, shape(2, 1, 2), 2, [1, 2]],
  [
    'undetermined without an earlier shape and with another number of fields',
    undefined,
    shape(3, 1, 2, 3),
    2,
    undefined,
  ],
  ['those before a column was added', shape(2, 1, 2), shape(3, 1, 2, 3), 2, [1, 2]],
  ['those between the additions of two columns', shape(1, 1), shape(3, 1, 2, 3), 2, [1, 2]],
  ['those before a column was dropped', shape(3, 1, 2, 3), shape(3, 1, 3), 3, [1, 2, 3]],
  ['those after a column was dropped', shape(3, 1, 2, 3), shape(3, 1, 3), 2, [1, 3]],
  ['undetermined when one was dropped and one added', shape(2, 1, 2), shape(3, 1, 3), 2, undefined],
  ['undetermined when one was added and dropped', shape(2, 1, 2), shape(3, 1, 2), 2, undefined],
])('the columns of a row are %s', (_, before, now, fields, numbers) => {
  expect(columnsOf(fields, before, now)?.map(({ number }) => number)).toEqual(numbers);
});

test('no sequence of schema changes between two reads assigns a value to a wrong column', () => {
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
      const found = columnsOf(written.length, shape(width, ...(states[0] ?? [])), shape(highest, ...numbers));
      if (found !== undefined) expect(found.map(({ number }) => number)).toEqual(written);
    }),
    { numRuns: 5_000 },
  );
});
