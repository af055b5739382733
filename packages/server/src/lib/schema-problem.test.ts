import fc from 'fast-check';
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { describe, expect, it } from 'vitest';
import { firstProblem } from './schema-problem.js';

const validator = Compile(
  Type.Object(
    {
      name: Type.String({ minLength: 1 }),
      size: Type.Optional(Type.Integer({ minimum: 1 })),
      mode: Type.Optional(Type.Union([Type.Literal('each'), Type.Literal('diff')])),
      lists: Type.Optional(Type.Object({ read: Type.Array(Type.String()) }, { additionalProperties: false })),
      ref: Type.Optional(Type.Union([Type.Integer(), Type.String({ maxLength: 3 })])),
      'a/b': Type.Optional(Type.Boolean()),
    },
    { additionalProperties: false },
  ),
);

describe('the first problem', () => {
  it.each([
    [null, 'body', /^body: must be object$/],
    [[], 'body', /^body: must be object$/],
    [{}, 'name', /^name: is required$/],
    [{ name: 7 }, 'name', /^name: must be string$/],
    [{ name: '' }, 'name', /^name: must not have fewer than 1 character/],
    [{ name: 'a', size: 1.5 }, 'size', /^size: must be integer$/],
    [{ name: 'a', colums: [] }, 'colums', /^colums: is not a known field$/],
    [{ name: 'a', mode: 'all' }, 'mode', /^mode: must be one of each, diff$/],
    [{ name: 'a', ref: {} }, 'ref', /^ref: has the wrong type$/],
    [{ name: 'a', lists: {} }, 'lists.read', /^lists\.read: is required$/],
    [{ name: 'a', lists: { read: ['x', 7] } }, 'lists.read.1', /^lists\.read\.1: must be string$/],
    [{ name: 'a', lists: { read: [], wirte: [] } }, 'lists.wirte', /^lists\.wirte: is not a known field$/],
    [{ name: 'a', 'a/b': 1 }, 'a/b', /^a\/b: must be boolean$/],
  ])('of %j is %s', (value, field, details) => {
    const problem = firstProblem(validator, value, 'body');
    expect(problem.details).toMatch(details);
    expect(problem.field).toBe(field);
  });

  it('of any rejected value has a bounded text that begins with the field', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string({ minLength: 300, maxLength: 400 }), (value, long) => {
        for (const wrong of [
          value,
          { name: 'a', [long]: 1 },
          { name: 'a', lists: { read: [], [long]: 1 } },
        ]) {
          if (validator.Check(wrong)) continue;
          const { field, details } = firstProblem(validator, wrong, 'body');
          expect(details.startsWith(`${field}: `)).toBe(true);
          expect(details.length).toBeLessThan(300);
        }
      }),
    );
  });
});
