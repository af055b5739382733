import { beforeAll, expect, it } from 'vitest';
import { loadParser } from '../../packages/server/src/changes/expressions/parse-expression.js';
import { parseCondition } from '../../packages/server/src/changes/visibility/parse-condition.js';
import { createTestDatabase, sql } from '../support/postgres-database.js';
import { Random } from './random.js';

/** Change this with `npm run test:fuzz -- --cases N`. */
const EXPRESSIONS = Number(process.env.FUZZ_CASES ?? 5_000);
const BATCH_SIZE = 1_000;
const SEED = 4711;
/** As small as all types but large texts: what a condition may cost is not tested here. */
const COLUMNS = ['a', 'b', 'c', 'd'].map((name) => ({ name, generated: null, typeOid: 23 }));

beforeAll(loadParser);

/** Generates expressions as people write them, with few parentheses, so that operator precedence matters. */
class ExpressionGenerator {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  bool(depth: number): string {
    const { of } = this.#choose();
    if (depth === 0) return of(['c', 'TRUE', 'NULL', 'NOT c', 'a = 1', `b = 'x'`, 'a IS NULL']);
    return of([
      () => `${this.bool(depth - 1)} AND ${this.bool(depth - 1)}`,
      () => `${this.bool(depth - 1)} OR ${this.bool(depth - 1)}`,
      () => `NOT ${this.bool(depth - 1)}`,
      () => `(${this.bool(depth - 1)})`,
      () => `(${this.bool(depth - 1)}) IS ${of(['', 'NOT '])}${of(['TRUE', 'FALSE', 'UNKNOWN', 'NULL'])}`,
      () =>
        `${this.number(depth - 1)} ${of(['=', '<>', '!=', '<', '<=', '>', '>='])} ${this.number(depth - 1)}`,
      () =>
        `${this.number(depth - 1)} ${of(['', 'NOT '])}BETWEEN ${of(['', 'SYMMETRIC '])}${this.number(0)} AND ${this.number(0)}`,
      () => `${this.number(depth - 1)} ${of(['', 'NOT '])}IN (${this.number(0)}, ${this.number(0)})`,
      () =>
        `${this.text(depth - 1)} ${of(['', 'NOT '])}${of(['LIKE', 'ILIKE'])} ${of([`'x%'`, `'_'`, `'%\\%%'`, `'a!%' ESCAPE '!'`])}`,
      () => `${this.text(depth - 1)} IS ${of(['', 'NOT '])}DISTINCT FROM ${this.text(depth - 1)}`,
      () => `${this.text(depth - 1)} ${of(['~', '~*', '!~', '!~*'])} ${of([`'^x'`, `'[a-c]+$'`])}`,
      () =>
        `${this.number(0)} = ${of(['ANY', 'ALL'])}(ARRAY[${of(['0', '1'])}, ${of(['-2', '3.5', 'NULL'])}])`,
      () => `d @> ${of([`'{"k": 1}'`, `'[]'`])}`,
      () => `CASE WHEN ${this.bool(depth - 1)} THEN ${this.bool(0)} ELSE ${this.bool(0)} END`,
    ])();
  }

  number(depth: number): string {
    const { of } = this.#choose();
    if (depth <= 0) return of(['a', '0', '1', '-2', '3.5', 'NULL::int', `(d ->> 'k')::int`, '- a', '1e2']);
    return of([
      () => `${this.number(depth - 1)} ${of(['+', '-', '*', '/', '%'])} ${this.number(depth - 1)}`,
      () => `(${this.number(depth - 1)})`,
      () => `-${this.number(0).replace(/^-/, ' -')}`,
      () => `abs(${this.number(depth - 1)})`,
      () => `length(${this.text(depth - 1)})`,
      () => `coalesce(${this.number(depth - 1)}, 0)`,
      () => `nullif(${this.number(depth - 1)}, 1)`,
      () => `greatest(${this.number(0)}, ${this.number(0)})`,
      () => `CAST(${this.number(depth - 1)} AS numeric(10, 2))`,
      () => `(ARRAY[1, 2, 3])[${of(['1', '2', 'a'])}]`,
    ])();
  }

  text(depth: number): string {
    const { of } = this.#choose();
    if (depth <= 0) return of(['b', `'x'`, `'it''s \\'`, `''`, `E'a\\n\\'b'`, `d ->> 'k'`, 'NULL::text']);
    return of([
      () => `nullif(${this.text(depth - 1)}, ${this.text(depth - 1)})`,
      () => `(${this.text(depth - 1)})`,
      () => `lower(${this.text(depth - 1)})`,
      () => `reverse(${this.text(depth - 1)})`,
      () => `substring(${this.text(depth - 1)} from 1 for 2)`,
      () => `trim(both 'x' from ${this.text(depth - 1)})`,
      () => `${this.number(0)}::text`,
    ])();
  }

  #choose() {
    return { of: <T>(items: readonly T[]): T => this.#random.of(items) };
  }
}

/**
 * A function that returns the values of an expression for a few rows, or the SQLSTATE of the error that it
 * raises.
 */
const OUTCOME = `
  CREATE FUNCTION outcome(expression text) RETURNS text LANGUAGE plpgsql AS $f$
  DECLARE found text;
  BEGIN
    EXECUTE 'SELECT string_agg(coalesce((' || expression || ')::text, ''null''), '','' ORDER BY n) FROM public.held' INTO found;
    RETURN found;
  EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
  END $f$;
  CREATE TABLE held AS SELECT * FROM (VALUES
    (1, 0, 'x', true, '{"k": 1}'::jsonb), (2, 1, 'aXc', false, '{}'), (3, -7, '', NULL, '[]'), (4, NULL, NULL, true, NULL)
  ) AS given(n, a, b, c, d);`;

it(
  `${EXPRESSIONS} random conditions evaluate the same after they are parsed and printed`,
  async () => {
    const database = await createTestDatabase();
    try {
      await sql(database.url, OUTCOME);
      const generator = new ExpressionGenerator(new Random(SEED));
      let evaluated = 0;
      let raising = 0;
      for (let done = 0; done < EXPRESSIONS; done += BATCH_SIZE) {
        const pairs = Array.from({ length: BATCH_SIZE }, () => {
          const text = generator.bool(3);
          const printed = parseCondition(text, COLUMNS).sql;
          expect(parseCondition(printed, COLUMNS).sql).toBe(printed);
          return [text, printed] as const;
        });
        const quoted = (text: string) => `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
        const rows = await sql<{ asked: string; written: string; printed: string }>(
          database.url,
          `SELECT asked, outcome(asked) AS written, outcome(printed) AS printed
         FROM (VALUES ${pairs.map((pair) => `(${pair.map(quoted).join()})`).join()}) AS given(asked, printed)`,
        );
        for (const { asked, written, printed } of rows) {
          expect([asked, printed]).toEqual([asked, written]);
          if (/^[0-9A-Z]{5}$/.test(written)) raising += 1;
        }
        evaluated += rows.length;
      }
      console.info(
        `conditions: ${evaluated} evaluated the same after parsing and printing; ${raising} of them raised the same error`,
      );
    } finally {
      await database.drop();
    }
  },
  Math.max(120_000, EXPRESSIONS * 20),
);
