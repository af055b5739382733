import { ProtocolError } from '@goforward/realtime-protocol';
import { beforeAll, expect, it } from 'vitest';
import { loadParser } from '../../packages/server/src/changes/expressions/parse-expression.js';
import type { TableFacts } from '../../packages/server/src/changes/model/table-facts.js';
import { checkCondition } from '../../packages/server/src/changes/visibility/check-condition.js';
import { parseCondition } from '../../packages/server/src/changes/visibility/parse-condition.js';
import type { Sql } from '../../packages/server/src/postgres/sql/sql.js';
import { createTestDatabase, sql } from '../support/postgres-database.js';
import { Random } from './random.js';

const TEXTS = 1_000;
const MAX_MS = 50;
const SEED = 4712;
const COLUMNS = ['id', 'content', 'done', 'data'].map((name) => ({ name, generated: null }));
const MEGABYTES = 4 * 1024 * 1024;

beforeAll(loadParser);

const STATEMENTS = [
  'DROP TABLE victims',
  'DELETE FROM victims',
  'INSERT INTO victims VALUES (2)',
  'ALTER ROLE realtime_subscriber SUPERUSER',
  `COPY victims TO PROGRAM 'true'`,
  'SET ROLE postgres',
  'TRUNCATE victims',
  'SELECT 1',
  'COMMIT',
  'CREATE TABLE more ()',
];
const CALLS = [
  'pg_sleep(10)',
  `pg_read_file('/etc/passwd')`,
  `set_config('role', 'postgres', true)`,
  `lo_import('/etc/passwd')`,
  `query_to_xml('DELETE FROM victims', true, true, '')`,
  `nextval('victims_id_seq')`,
  'pg_terminate_backend(1)',
  `dblink('', '')`,
  'txid_current()',
  `pg_notify('a', 'b')`,
  'random()',
  `repeat('x', 1000000000)`,
  'generate_series(1, 1000000000)',
  'pg_advisory_lock(1)',
  'xmlparse(document content)',
  'row_to_json(victims)',
  'pg_catalog.pg_sleep(1)',
  `"pg_read_file"('x')`,
  'count(*)',
  'sum(id) OVER ()',
];

/** Generators of conditions that must be refused. */
const KINDS: ((random: Random) => string)[] = [
  (r) => `id = ${r.below(9)}; ${r.of(STATEMENTS)}`,
  (r) => `id = ${r.below(9)}; ${r.of(STATEMENTS)}; --`,
  (r) => `1=1); ${r.of(STATEMENTS)}; SELECT (1`,
  (r) => `done ${r.of(['--', '-- x\n', '/*', '/* x */', '/* /* */ */', '/**/'])}${r.of(STATEMENTS)}`,
  (r) => `content = ${r.of(['$$x$$', '$a$x$a$', '$a$ $$ $a$', '$_$;$_$'])}`,
  (r) =>
    `content = ${r.of([`U&'\\0041'`, `u&'\\+000041'`, `E'\\u0041'`, `e'\\U00000041'`, `U&'!0041' UESCAPE '!'`])}`,
  (r) => `${r.of([`U&"\\0069d"`, `u&"d!0061t" UESCAPE '!'`])} = ${r.below(9)}`,
  (r) => `${'('.repeat(r.of([101, 1_000, 2_000, 10_000]))}done`,
  (r) => {
    const depth = r.of([101, 1_000, 2_000, 10_000]);
    return `${'('.repeat(depth)}done${')'.repeat(depth)}`;
  },
  (r) => `${'NOT '.repeat(r.of([70, 500, 1_000]))}done`,
  (r) => `id = ${'- '.repeat(r.of([200, 1_000]))}id`,
  (r) => `id${'::int'.repeat(r.of([200, 800]))} = 1`,
  (r) => `content = ${'content || '.repeat(r.of([100, 350]))}content`,
  (r) => `${'id = 1 OR '.repeat(r.of([600, 6_000]))}done`,
  (r) => `id IN (${Array.from({ length: r.of([600, 1_500]) }, (_, n) => n % 10).join()})`,
  (r) => `${'CASE WHEN done THEN '.repeat(100)}true${' END'.repeat(100 + r.below(2))}`,
  (r) => `content = '${r.of(['x', '\u{1F600}', "''", '\\', 'é']).repeat(MEGABYTES / 4)}'`,
  (r) => `${r.of(['id = 1 AND ', '(', 'x', ' ', '[', '"', '1', '$', ';', '/*']).repeat(MEGABYTES / 4)}done`,
  (r) => `done${r.of(['\n', ' ', '\t', '\u00a0', '\u2028']).repeat(MEGABYTES / 4)}`,
  (r) => `${r.of(CALLS)} ${r.of(['IS NULL', '= 1', 'IS NOT DISTINCT FROM NULL'])}`,
  (r) => `coalesce(${r.of(CALLS)}, NULL) IS NULL`,
  (r) => `id = CASE WHEN done THEN ${r.of(CALLS)} ELSE 1 END`,
  (r) => `id = (SELECT ${r.of(['1', 'id FROM victims', 'count(*) FROM pg_authid'])})`,
  (r) => `EXISTS (SELECT FROM ${r.of(['victims', 'pg_shadow', 'generate_series(1, 9)'])})`,
  () => `id IN (WITH x AS (DELETE FROM victims RETURNING id) SELECT id FROM x)`,
  (r) => `id = $${r.below(20)}`,
  (r) =>
    `${r.of(['CURRENT_USER', 'SESSION_USER', 'CURRENT_ROLE', 'CURRENT_CATALOG', 'CURRENT_SCHEMA', 'USER'])} = content`,
  (r) => `${r.of(['CURRENT_DATE', 'CURRENT_TIMESTAMP', 'LOCALTIME'])} IS NOT NULL`,
  (r) =>
    `${r.of(['ctid', 'tableoid', 'xmin', 'oid', 'nobody', 'victims', 'victims.id', '*', 'victims.*'])} IS NOT NULL`,
  (r) =>
    `content::${r.of(['regclass', 'regproc', 'regrole', 'oid', 'public.mine', 'victims', 'xml', 'refcursor'])} IS NULL`,
  (r) => `id ${r.of(['OPERATOR(public.=)', '=>', '@@@', '<<<', '#!', '!!='])} 1`,
  (r) =>
    `id = 1 ${r.of(['UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT'])} ${r.of(['SELECT 1', 'TABLE victims', 'VALUES (1)'])}`,
  (r) =>
    `done ${r.of(['FROM victims', 'INTO victims', 'LIMIT 1', 'FOR UPDATE', 'WHERE done', 'GROUP BY id', 'HAVING true', 'WINDOW w AS ()', 'AS x', ', id'])}`,
  (r) => `(id, ${r.below(9)}) = (1, 2)`,
  (r) => `ROW(id) = ROW(${r.below(9)})`,
  (r) => `content COLLATE ${r.of(['"C"', 'pg_catalog."default"', '"x;y"'])} = 'x'`,
  (r) => `content = '${r.of(['\0', '\ud800', '\udfff', 'a\0b'])}'`,
  (r) => `${r.of(['\0', '\ud800', '\u202e;'])}done`,
  (r) => `content ${r.of(['SIMILAR TO', 'SIMILAR TO NULL ||'])} 'x'`,
  (r) => `done${r.of([')', ') OR (true', '))', `'`, `"`, ' AND', ' OR OR done', ' = = 1', '\\'])}`,
  (r) => `id = 1 ${r.of(STATEMENTS)}`,
  (r) => `\u200b${r.of(STATEMENTS)}`,
  (r) => `${r.of(['', ' ', '\n\t', '\u00a0'])}`,
];

function hostileText(random: Random): string {
  const text = random.of(KINDS)(random);
  // Leading spaces and upper case must not make a hostile text acceptable.
  const spaced = random.chance(0.3) ? `${' '.repeat(1 + random.below(5))}${text}` : text;
  return random.chance(0.1) && text.length < 4096 ? spaced.toUpperCase() : spaced;
}

function cpuMs(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

it(`${TEXTS} hostile conditions are refused, each in under ${MAX_MS} ms, and none reaches the database`, async () => {
  const database = await createTestDatabase();
  const relations = "SELECT string_agg(relname, ',' ORDER BY relname) AS relations FROM pg_class";
  await sql(database.url, 'CREATE TABLE victims (id serial); INSERT INTO victims VALUES (1)');
  const before = await sql(database.url, relations);
  const facts = { oid: 0, schema: 'public', name: 'victims', columns: COLUMNS } as unknown as TableFacts;
  const reached: string[] = [];
  const random = new Random(SEED);
  const slow: string[] = [];
  for (let n = 0; n < TEXTS; n++) {
    const text = hostileText(random);
    const refuse = () =>
      expect(() => parseCondition(text, COLUMNS), text.slice(0, 80)).toThrow(ProtocolError);
    // Other work of this process may disturb one measurement, but hardly two in a row.
    if (cpuMs(refuse) > MAX_MS && cpuMs(refuse) > MAX_MS) slow.push(text.slice(0, 80));
    const transaction = async <T>(work: (sql: Sql) => Promise<T>): Promise<T> => {
      reached.push(text.slice(0, 80));
      return work({ query: async (statement) => sql(database.url, statement) });
    };
    const refusal = checkCondition({ transaction }, facts, 'realtime_subscriber', text);
    await expect(refusal, text.slice(0, 80)).rejects.toMatchObject({ code: 'DB_SUBSCRIPTION_FAILED' });
  }
  expect(slow).toEqual([]);
  expect(reached).toEqual([]);
  expect(await sql(database.url, relations)).toEqual(before);
  expect(await sql(database.url, 'SELECT * FROM victims')).toEqual([{ id: 1 }]);
  await database.drop();
});
