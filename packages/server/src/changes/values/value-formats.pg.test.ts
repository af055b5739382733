import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { postgresVersions } from '../../../../../tests/support/matrix.js';
import {
  createTestDatabase,
  sql,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import { silentLog } from '../../lib/log.js';
import { Database } from '../../postgres/connection/database.js';
import { recordFields } from '../../postgres/sql/record-text.js';
import { JsonRecordWriter } from './json-record-writer.js';
import { rowArrayLiteral } from './row-array-literal.js';
import { ValueFormats } from './value-formats.js';

/** Types, each with difficult values as SQL literals. */
const VALUES: readonly (readonly [type: string, ...values: string[]])[] = [
  ['bool', 'true', 'false'],
  ['int2', '-32768', '32767'],
  ['int4', '0', '-2147483648'],
  ['int8', '9007199254740991', '9007199254740993', '-9223372036854775808'],
  ['float4', "'NaN'", "'-Infinity'", '1.5', '0.1', '1e-20'],
  ['float8', "'NaN'", "'Infinity'", '0.1', '1e300', '5e-324', "'-0'", '123456789012345680000'],
  ['numeric', "'NaN'", '1.50', '0.1', '12345678901234567890.123', '1e-7', '1e21', '0.000', '-0.10'],
  ['text', "''", "'a\"b\\c'", "E'\\n\\t\\u0001'", "'\u{1f600}e\u0301'", "'null'", '\'(a,"b")\'', "'{}'"],
  ['varchar(5)', "'abc'"],
  ['char(5)', "'ab'"],
  ['name', "'pg'"],
  ['"char"', "'x'"],
  ['bytea', "'\\x00ff'", "''"],
  ['uuid', "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
  ['date', "'2026-02-28'", "'infinity'", "'0044-03-15 BC'", "'5874897-12-31'"],
  ['time', "'23:59:59.999999'"],
  ['timetz', "'10:00:00+05:45'"],
  [
    'timestamp',
    "'2026-01-02 03:04:05.123456'",
    "'-infinity'",
    "'0044-03-15 10:00:00 BC'",
    "'294276-12-31 23:59:59'",
  ],
  ['timestamptz', "'2026-01-02 03:04:05.1+05:45'", "'infinity'", "'0044-03-15 10:00:00+00 BC'"],
  ['interval', "'1 year -2 days 03:04:05.6'", "'-1 month'", "'0'"],
  ['json', `'{"a" : [1, 2.50, null], "b":"\\u00e4"}'`, "'12345678901234567890.10'", "'null'", `'"x"'`],
  ['jsonb', `'{"b":1,"a":[9007199254740993]}'`, "'[]'", "'null'"],
  ['xml', '\'<a b="c"/>\''],
  ['money', "'12.34'"],
  ['inet', "'10.0.0.1/8'", "'::1'"],
  ['bit(4)', "B'1010'"],
  ['point', "'(1,2.5)'"],
  ['box', "'(1,1),(0,0)'"],
  ['tsvector', "'a:1 b:2'"],
  ['oid', '4000000000'],
  ['regclass', "'pg_class'"],
  ['int2vector', "'1 2 3'"],
  ['oidvector', "'1 2'"],
  ['int4range', "'[1,5)'", "'empty'"],
  ['int4multirange', "'{[1,2),[5,9)}'"],
  ['int4[]', "'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:1]={7,8}'"],
  ['text[]', `ARRAY['a,b', 'c"d', 'e\\f', '', 'NULL', NULL, '{x}', ' y ']`],
  ['numeric[]', "'{1.50,NaN,9007199254740993}'"],
  ['bool[]', "'{t,f}'"],
  ['box[]', "ARRAY['(1,1),(0,0)'::box, '(2,2),(1,1)'::box]"],
  ['jsonb[]', `ARRAY['{"a":"b"}'::jsonb, '1'::jsonb]`],
  ['timestamptz[]', "ARRAY['2026-01-02 03:04:05+00'::timestamptz]"],
  ['mood', "'so so'"],
  ['mood[]', "ARRAY['ok'::mood, 'so so'::mood]"],
  ['positive', '7'],
  ['pair', "ROW(NULL, 'a\"b\\(c,d)', ROW(1, true)::inner_pair)::pair", "ROW(1, '', NULL)::pair"],
  ['pair[]', "ARRAY[ROW(2, 'x,y', ROW(3, false)::inner_pair)::pair]"],
  ['tags', "ARRAY['a','b']"],
  ['castable', 'ROW(1)::castable'],
  ['castable[]', 'ARRAY[ROW(1)::castable]'],
];

const TYPES = `
  CREATE TYPE mood AS ENUM ('ok', 'so so');
  CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
  CREATE DOMAIN tags AS text[];
  CREATE TYPE inner_pair AS (n int, b bool);
  CREATE TYPE pair AS (n numeric, t text, dropped int, i inner_pair);
  ALTER TYPE pair DROP ATTRIBUTE dropped;
  CREATE TYPE castable AS (n int);
  CREATE FUNCTION castable_json(castable) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_build_object('cast', $1.n) $$;
  CREATE CAST (castable AS json) WITH FUNCTION castable_json(castable);`;

/** Parses JSON with every number as `{'#': number}`, as JavaScript reads it. */
function withNumberRule(json: string): unknown {
  const exact = json.replace(/("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)/g, (_, text, number) => {
    if (text !== undefined) return text;
    return JSON.stringify({ '#': Number(number) });
  });
  return JSON.parse(exact);
}

const VERSIONS = postgresVersions('newest', 'oldest');

describe.each(VERSIONS)('JSON of row values, on the %s PostgreSQL', (version) => {
  let test: TestDatabase;
  let database: Database;

  beforeAll(async () => {
    test = await createTestDatabase(version);
    const name = new URL(test.url).pathname.slice(1);
    await sql(test.url, TYPES);
    for (const setting of [
      `DateStyle = 'SQL, DMY'`,
      `TimeZone = 'Asia/Kathmandu'`,
      `IntervalStyle = 'postgres_verbose'`,
      'extra_float_digits = -15',
      `bytea_output = 'escape'`,
    ])
      await sql(test.url, `ALTER DATABASE ${name} SET ${setting}`);
    database = new Database({
      url: test.url,
      log: silentLog,
      maxReconnectDelayMs: 100,
      onReady: async () => undefined,
    });
    await database.start();
  });
  afterAll(async () => {
    await database.stop();
    await test.drop();
  });

  it.each(VALUES)(
    '%s values become what to_jsonb returns, except numbers that JavaScript cannot hold',
    async (type, ...values) => {
      const typeName = /^(mood|positive|pair|tags|castable)/.test(type) ? `public.${type}` : type;
      const list = values.map(
        (value) =>
          `((${value.replaceAll(/::(mood|pair|inner_pair|castable)\b/g, '::public.$1')})::${typeName})`,
      );
      const rows = await database.query<{ row: string; json: string; oid: number }>(
        `SELECT ROW(v, NULL::int)::text AS row, to_jsonb(v)::text AS json, '${typeName}'::regtype::oid::int8::float8 AS oid
       FROM (VALUES ${list.join(', ')}) AS given(v)`,
      );
      expect(rows).toHaveLength(values.length);
      const oid = rows[0]?.oid ?? 0;
      const formats = new ValueFormats(database);
      await formats.load([oid, 23]);
      const columns = [
        { name: 'v"', typeOid: oid, typeModifier: -1, isKey: false },
        { name: 'n', typeOid: 23, typeModifier: -1, isKey: false },
      ];
      const images = rows.map(({ row }) => recordFields(row));
      formats.beginRows();
      await formats.convert({ oid: 1, schema: 's', name: 't', identity: 'f', columns }, images);
      const writer = new JsonRecordWriter(columns, [0, 1], formats);
      for (const [n, { json }] of rows.entries()) {
        const ours = writer.json(images[n] ?? []);
        expect(ours.startsWith('{"v\\"":') && ours.endsWith(',"n":null}')).toBe(true);
        const value = ours.slice(7, -10);
        if (/numeric|float|int8|positive|pair/.test(type)) {
          // A number may be a string in our JSON; everything else must be equal.
          const loose = (text: string) => text.replaceAll(/"(-?[\d.]+(?:e[-+]?\d+)?)"/g, '$1');
          expect(withNumberRule(loose(value))).toEqual(withNumberRule(loose(json)));
        } else expect(JSON.parse(value)).toEqual(JSON.parse(json));
      }
    },
  );

  it('PostgreSQL reads a row literal back as the same row, whatever it holds', async () => {
    await sql(test.url, 'CREATE TABLE held (a text, b text[], c json, d int, e public.pair)');
    const images = [
      ['a"b\\c,(){}', '{"x,y","\\"",NULL}', '{"a" : "\\u0000"}', null, '(1,"a""b\\\\c",)'],
      ['', '{}', null, '-5', undefined],
    ];
    const [back] = await database.query<{ rows: string[] }>(
      'SELECT array_agg(t::text) AS rows FROM unnest($1::public.held[]) AS t',
      [rowArrayLiteral(images)],
    );
    expect(back?.rows.map(recordFields)).toEqual(images.map((image) => image.map((text) => text ?? null)));
  });
});
