import { ProtocolError } from '@goforward/realtime-protocol';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadParser } from '../expressions/parse-expression.js';
import { parseCondition } from './parse-condition.js';

beforeAll(loadParser);

const COLUMNS = [
  ...['id', 'user_id', 'content', 'tags', 'data', 'we"ird', 'done'].map((name) => ({
    name,
    generated: null,
  })),
  { name: 'made', generated: 'id + 1' },
];

const sqlOf = (text: string) => parseCondition(text, COLUMNS).sql;

function refused(text: string): string {
  try {
    parseCondition(text, COLUMNS);
  } catch (error) {
    if (error instanceof ProtocolError) {
      expect([error.code, error.body.field]).toEqual(['DB_SUBSCRIPTION_FAILED', 'condition']);
      return error.body.details ?? '';
    }
    throw error;
  }
  throw new Error(`${text} was accepted`);
}

describe('a printed condition has every name quoted and every operation in parentheses', () => {
  it.each([
    ['user_id IS NOT NULL', '("user_id" IS NOT NULL)'],
    [`id = 1 AND content LIKE 'a%' OR NOT done`, `((("id" = 1) AND ("content" LIKE 'a%')) OR (NOT "done"))`],
    [`"we""ird" = 'it''s'`, `("we""ird" = 'it''s')`],
    ['id IN (1, -2, 3.5)', '("id" IN (1, (-2), 3.5))'],
    ['id NOT BETWEEN 1 AND 2', '("id" NOT BETWEEN 1 AND 2)'],
    [`data->>'a' IS DISTINCT FROM 'b'`, `(("data" ->> 'a') IS DISTINCT FROM 'b')`],
    [
      'lower(content) = reverse(content)',
      '(pg_catalog."lower"("content") = pg_catalog."reverse"("content"))',
    ],
    ['id::text = CAST(1 AS text)', '(CAST("id" AS pg_catalog."text") = CAST(1 AS pg_catalog."text"))'],
    ['id = ANY(ARRAY[1,2])', '("id" = ANY ((ARRAY[1, 2])))'],
    ['tags[1] = 1 OR tags[1:2] = tags', '((("tags")[1] = 1) OR (("tags")[1:2] = "tags"))'],
    ['CASE WHEN done THEN id ELSE 2 END > 1', '((CASE WHEN "done" THEN "id" ELSE 2 END) > 1)'],
    ['extract(year from user_id) = 1', `(pg_catalog."extract"('year', "user_id") = 1)`],
    ['- id < + 3', '((- "id") < (+ 3))'],
    [`content = E'a\\nb'`, `("content" = 'a\nb')`],
    ['1 - (2 - 3) = 1 - 2 - 3', '((1 - (2 - 3)) = ((1 - 2) - 3))'],
  ])('%s', (text, printed) => {
    expect(sqlOf(text)).toBe(printed);
  });

  it('and its columns are the ones that it reads', () => {
    expect(parseCondition('id = 1 OR done AND id > 2', COLUMNS).columns).toEqual(['id', 'done']);
  });
});

describe('a condition is refused', () => {
  const cases: readonly (readonly [text: string, words: string])[] = [
    ['', 'empty'],
    ['id = ', 'syntax error at end of input'],
    ['nothing = 1', "Column 'nothing' does not exist"],
    ['made = 1', "Column 'made' is generated"],
    ['ctid IS NULL', "Column 'ctid' does not exist"],
    ['other.id = 1', 'without a table name'],
    ['id = (SELECT 1)', 'cannot contain sub-selects'],
    ['EXISTS (SELECT 1)', 'cannot contain sub-selects'],
    ['id = ANY (SELECT 1)', 'cannot contain sub-selects'],
    ['count(*) > 1', 'cannot call count()'],
    ['now() > id', 'cannot call now()'],
    ['pg_sleep(1) IS NULL', 'cannot call pg_sleep()'],
    ['public.lower(content) = 1', 'cannot call public.lower()'],
    ['"LOWER"(content) = 1', 'cannot call LOWER()'],
    ['lower(DISTINCT content) = 1', 'cannot contain aggregates'],
    ['CURRENT_DATE = id', 'depend on the time'],
    ['CURRENT_USER = content', 'depend on the time or the session'],
    [`id > 'now'::timestamptz`, 'depend on the time'],
    ['id = $1', 'cannot contain parameters'],
    ['id::regclass IS NULL', 'cannot cast to regclass'],
    ['id::public.text IS NULL', 'cannot cast to public.text'],
    ['id OPERATOR(public.=) 1', 'cannot use the operator public.='],
    ['id !== 1', 'cannot use the operator !=='],
    ['id = 1; DROP TABLE x', 'without a semicolon'],
    ['id = 1 -- x', 'cannot contain comments'],
    ['/* x */ id = 1', 'cannot contain comments'],
    ['content = $$x$$', 'cannot contain dollar quotes'],
    [`content = U&'\\0041'`, 'cannot contain Unicode escapes'],
    [`U&"\\0069d" = 1`, 'cannot contain Unicode escapes'],
    [`content = E'\\u0041'`, 'cannot contain Unicode escapes'],
    ['id, done', 'one boolean expression'],
    ['id AS x', 'one boolean expression'],
    ['id FROM x', 'one boolean expression'],
    ['done WHERE done', 'one boolean expression'],
    ['done UNION SELECT true', 'one boolean expression'],
    ['done LIMIT 1', 'one boolean expression'],
    ['DISTINCT done', 'one boolean expression'],
    ['*', 'without a table name'],
    ['done) OR (true', 'syntax error'],
    ['(id, 1) = (1, 2)', 'cannot contain row values'],
    ['content COLLATE "C" = 1', 'cannot contain COLLATE'],
    ['id = 1\0', 'characters that PostgreSQL does not accept'],
    [`content = '\ud800'`, 'characters that PostgreSQL does not accept'],
    ['('.repeat(10_000) + ')'.repeat(10_000), 'longer than 4096 bytes'],
    ['('.repeat(2_000) + ')'.repeat(2_000), 'nested too deep'],
    [`${'NOT '.repeat(60)}done`, 'too complex'],
    [`id IN (${Array.from({ length: 600 }, (_, n) => n).join()})`, 'too complex'],
    [`content || content = 'x'`, 'cannot use the operator ||; compare the parts one by one'],
    [`upper(content) = 'X'`, 'cannot call upper(); use lower()'],
    [`replace(content, 'a', 'aa') = 'x'`, 'cannot call replace(); use LIKE'],
    [`content = '${'x'.repeat(1_025)}'`, 'literal of more than 1024 bytes'],
    ['id = 1e131000', 'exponent of more than three digits'],
    [`data = '[1,-1E+1000]'`, 'exponent of more than three digits'],
    ['content::bpchar(1001) IS NULL', 'modifier over 1000'],
    ['content::bit(8) IS NULL', 'cannot cast to pg_catalog.bit'],
    ['content::int[] IS NULL', 'cast only literals to int4[]'],
    ['content::jsonb IS NULL', 'cast only literals to jsonb; cast to json'],
    [`lower('[NOW,)')::tstzrange IS NULL`, 'cast only literals to tstzrange'],
    [`ARRAY[lower('NOW')]::date[] IS NULL`, 'cast only literals to date[]'],
    ['ARRAY[content, content] IS NULL', 'cannot read columns in an ARRAY'],
    ['content LIKE user_id', 'the operator ~~ only with a literal'],
    [`content ~ lower('A')`, 'the operator ~ only with a literal'],
    ['content LIKE ANY (tags)', 'the operator ~~ only with a literal'],
    ['substring(content from user_id) IS NULL', 'substring() only with a literal'],
    ['strpos(content, user_id) > 0', 'strpos() only with a literal'],
    ['btrim(content, user_id) IS NULL', 'btrim() only with a literal'],
    [`like_escape(content, '!') = content`, 'like_escape() only with literals'],
    ['round(id, 1001) = 1', 'round() only with up to 1000 digits'],
    ['id::numeric * 2 > 1', 'the operator * on numeric values only with a precision'],
    [`content LIKE '%${'x'.repeat(100)}%'`, 'take too long on a large row'],
    [`content LIKE '%${'x!%'.repeat(40)}%' ESCAPE '!'`, 'take too long on a large row'],
    [`${'content < user_id OR '.repeat(16)}done`, 'take too long on a large row'],
    [`strpos(content, '${'x'.repeat(150)}') > 0`, 'take too long on a large row'],
    [`tags @> '{${'1,'.repeat(30)}1}'`, 'take too long on a large row'],
    [`content LIKE ANY ('{${'%a,'.repeat(20)}%a}')`, 'take too long on a large row'],
    [`content = ANY ('{${'a,'.repeat(100)}a}')`, 'take too long on a large row'],
    [`content < ANY (tags)`, '< ANY and < ALL only with a list of literals'],
    [`greatest(${Array.from({ length: 16 }, () => 'content').join()}) = 'x'`, 'take too long on a large row'],
    [`CASE content ${'WHEN user_id THEN true '.repeat(16)} END`, 'take too long on a large row'],
    [Array.from({ length: 38 }, (_, n) => `tags[${n}] IS NULL`).join(' OR '), 'take too long on a large row'],
    [`id > 'NOW'::timestamptz`, 'depend on the time'],
    [`id > ' (tomorrow) 10:00'::timestamp`, 'depend on the time'],
    [`id = '{2025-01-01,today}'::date[]`, 'depend on the time'],
    [`id = '[yesterday,)'::daterange`, 'depend on the time'],
    ['x'.repeat(4 * 1024 * 1024), 'longer than 4096 bytes'],
  ];

  it.each(cases.map(([text, words]) => [text.slice(0, 40), words, text]))('%s: %s', (_, words, text) => {
    expect(refused(text)).toContain(words);
  });
});

describe('a condition may', () => {
  it.each([
    [`content LIKE 'a!%' ESCAPE '!' OR content ILIKE ANY ('{a%,b%}') OR content LIKE ANY (ARRAY['a', 'b'])`],
    [`content LIKE NULL OR content LIKE '${'_'.repeat(1_023)}%'`],
    [`data->>'a' = 'x' AND (data->'b'->>'c')::int > 5 AND data @> '{"a": 1}'`],
    [`strpos(content, 'x') > 0 AND split_part(content, ',', -1) = 'a' AND btrim(content, ' x') <> ''`],
    [`'x' = ANY(tags) AND tags && ARRAY['a', 'b', 'c'] AND tags[1:2] = tags`],
    [`user_id = '11e11111-1e11-4e11-8e11-1e1111111111' AND content <> '1e-20000'`],
    [`id IN (${Array.from({ length: 95 }, (_, n) => n).join()})`],
    [Array.from({ length: 95 }, (_, n) => `id = ${n}`).join(' OR ')],
    [`CAST(id AS numeric(38, 10)) * 2 > 1 AND id % 2 = 0 AND round(id, 2) = 1`],
  ])('%s', (text) => {
    expect(() => parseCondition(text, COLUMNS)).not.toThrow();
  });
});

it('many comparisons are accepted where the columns have no large values', () => {
  const columns = [{ name: 'id', generated: null, typeOid: 20 }];
  const numbers = Array.from({ length: 400 }, (_, n) => n);
  expect(() => parseCondition(`id IN (${numbers.join()})`, columns)).not.toThrow();
  expect(() => parseCondition(`id = ANY ('{${numbers.slice(0, 250).join()}}')`, columns)).not.toThrow();
});

it('words for the present are looked for in literals alone, as words of any case', () => {
  const columns = [{ name: 'now', generated: null }];
  expect(parseCondition(`now = 'now'`, columns).withoutPresent).toEqual([`("now" = 'notime')`]);
  expect(parseCondition(`now = '{TODAY,Now}'`, columns).withoutPresent).toEqual([
    `("now" = '{notime,notime}')`,
  ]);
  expect(parseCondition(`now = 'known' OR now = 'todays'`, columns).withoutPresent).toEqual([]);
});
