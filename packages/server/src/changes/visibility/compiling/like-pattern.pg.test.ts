import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectedDatabase } from '../../../../../../tests/support/connected-database.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../../tests/support/postgres-database.js';
import type { Database } from '../../../postgres/connection/database.js';
import { loadParser } from '../../expressions/parse-expression.js';
import { DEFAULT_DB_ROLE } from '../../model/viewer.js';
import { PostgresAuthorizer } from '../evaluating/postgres-authorizer.js';
import { parseCondition } from '../parse-condition.js';
import { LikePattern } from './like-pattern.js';
import { LikeSearch } from './like-search.js';
import { testOf } from './predicate.js';
import { TypedRow } from './typed-row.js';

/** Change it with `npm run test:fuzz -- --cases N`. */
const CASES = Number(process.env.FUZZ_CASES ?? 5_000);
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_127);

let test: TestDatabase;
let database: Database;

beforeAll(async () => {
  await loadParser();
  test = await createTestDatabase();
  database = await connectedDatabase(test.url);
});

afterAll(async () => {
  await database.stop();
  await test.drop();
});

const ALPHABETS = [
  ['a', 'b'],
  ['a', 'é', '\u{1f600}', '\u{1f601}', '\uffff'],
  ['a', '%', '_', '\\'],
  ['e', '\u0301', 'ё', '日', 'A'],
];
const parts = (alphabet: readonly string[]) => {
  const one = fc.constantFrom(...alphabet);
  const run = fc.tuple(one, fc.integer({ min: 25, max: 70 })).map(([only, n]) => only.repeat(n));
  return fc.array(fc.oneof({ weight: 9, arbitrary: one }, run), { maxLength: 12 });
};
const steps = (alphabet: readonly string[]) =>
  parts([...alphabet, ...alphabet, '_', '%', '%', '\\']).map((all) => all.join(''));
/** Texts with some parts of the pattern in them, so that many match. */
const textFor = (alphabet: readonly string[], pattern: string) =>
  fc
    .tuple(parts(alphabet), fc.array(fc.constantFrom(...alphabet), { maxLength: 6 }))
    .chain(([random, filling]) =>
      fc.constantFrom(
        random.join(''),
        pattern
          .replaceAll('%', filling.join(''))
          .replaceAll('_', filling[0] ?? 'a')
          .replaceAll('\\', ''),
      ),
    );
const likeCase = fc
  .constantFrom(...ALPHABETS)
  .chain((alphabet) =>
    steps(alphabet).chain((pattern) => textFor(alphabet, pattern).map((text) => ({ text, pattern }))),
  );

it(`LIKE is true where PostgreSQL says so, in ${CASES} cases of seed ${SEED}`, async () => {
  const counts = { true: 0, false: 0 };
  const cases = fc.sample(likeCase, { numRuns: CASES, seed: SEED }).flatMap(({ text, pattern }) => {
    const like = LikePattern.of(pattern);
    return like === undefined ? [] : [{ text, pattern, like }];
  });
  const [row] = await database.query<{ expected: boolean[] }>(
    `SELECT array_agg(t LIKE p ORDER BY n) AS expected
     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given(t, p, n)`,
    [cases.map(({ text }) => text), cases.map(({ pattern }) => pattern)],
  );
  for (const [n, { text, pattern, like }] of cases.entries()) {
    const is = like.matches(text, new LikeSearch(1e9));
    expect({ text, pattern, is }).toEqual({ text, pattern, is: row?.expected[n] });
    counts[is === true ? 'true' : 'false'] += 1;
  }
  expect(Math.min(counts.true, counts.false)).toBeGreaterThan(CASES * 0.1);
});

describe.each(['UTF8', 'LATIN1', 'SQL_ASCII', 'EUC_JP'])('in a database in %s', (encoding) => {
  it('conditions with LIKE that are compiled give the result of PostgreSQL', async () => {
    const name = `${test.name}_${encoding.toLowerCase()}`;
    await sql(
      test.url,
      `CREATE DATABASE ${name} ENCODING '${encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0`,
    );
    const url = new URL(test.url);
    url.pathname = `/${name}`;
    const other = await connectedDatabase(url.href);
    const authorizer = new PostgresAuthorizer({ database: other, enableRls: true, clock: Date.now });
    try {
      const texts = encoding === 'EUC_JP' ? ['ab', '日', '日本'] : ['ab', 'é', 'aé', 'ÿ'];
      await sql(url.href, `CREATE TABLE notes (t text); GRANT SELECT ON notes TO ${DEFAULT_DB_ROLE}`);
      const [row] = await sql<{ oid: number }>(url.href, `SELECT 'notes'::regclass::oid::int AS oid`);
      const facts = await authorizer.facts(row?.oid ?? 0);
      if (facts === undefined) throw new Error('no table');
      const results: Record<string, boolean> = {};
      for (const pattern of ['a%', '_', '__', '%_b', `${texts[1]}%`, '\\_']) {
        const condition = parseCondition(`t LIKE '${pattern}'`, facts.columns);
        const compilation = await authorizer.compileCondition(facts, condition);
        results[pattern] = 'compiled' in compilation;
        if (!('compiled' in compilation)) continue;
        const holds = testOf(compilation.compiled.predicate);
        for (const text of texts) {
          const [found] = await other.query<{ like: boolean }>('SELECT $1::text LIKE $2::text AS like', [
            text,
            pattern,
          ]);
          expect([text, pattern, holds(new TypedRow([text]), [])]).toEqual([text, pattern, found?.like]);
        }
      }
      const isCompiled = encoding === 'UTF8' || encoding === 'LATIN1';
      expect(results).toEqual({
        'a%': true,
        _: isCompiled,
        __: isCompiled,
        '%_b': isCompiled,
        [`${texts[1]}%`]: true,
        '\\_': true,
      });
    } finally {
      authorizer.stop();
      await other.stop();
      await sql(test.url, `DROP DATABASE ${name} WITH (FORCE)`);
    }
  });
});
