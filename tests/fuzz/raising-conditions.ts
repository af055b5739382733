import type { Random } from './random.js';

/**
 * Generates conditions over the columns of a world's table (a int, b text, c bool, u uuid), most of which raise an error on
 * some rows: divisions by zero, failing casts, values out of range, and wrong patterns.
 */
export function raisingCondition(random: Random, depth: number): string {
  if (depth > 0 && random.chance(0.5)) {
    const inner = () => raisingCondition(random, depth - 1);
    return random.of([
      () => `${inner()} AND ${inner()}`,
      () => `(${inner()} OR ${inner()})`,
      () => `NOT (${inner()})`,
      () => `CASE WHEN ${inner()} THEN ${inner()} ELSE ${inner()} END`,
      () => `coalesce(${inner()}, ${inner()})`,
    ])();
  }
  const n = random.below(6);
  return random.of([
    `10 / a > ${n}`,
    `a % (${n} - a) = 0`,
    `div(a, a - ${n}) > 1`,
    'c',
    `a > ${n}`,
    `b::int > ${n}`,
    'b::uuid = u',
    `b::json ->> 'x' = 'y'`,
    'b::inet IS NULL',
    'b::bool IS NOT TRUE',
    'u::text::int = a',
    'CAST(a AS numeric(1, 1)) < 1',
    `CAST(a * 20000 AS int2) > ${n}`,
    'b IS NULL',
    `a + ${2_147_483_647 - n} > 0`,
    `a * 1000000000 > ${n}`,
    `sqrt(a - ${n}) > 1`,
    'b::float8 < 1',
    `b ~ '('`,
    `b ~* '[x'`,
    `b LIKE 'x\\'`,
    `b = 'x'`,
    `split_part(b, 'a', 0) = b`,
    'substring(b, 1, -1) = b',
    `date_trunc(b, timestamp '2025-01-01') IS NULL`,
    'b::interval IS NULL',
    `lower(b) = 'ada'`,
  ]);
}
