import fc from 'fast-check';

/** A table with a column of each type that is compared in process, and some that only PostgreSQL compares. */
export const TABLE = `
  CREATE TYPE mood AS ENUM ('sad', 'ok', 'Happy day');
  CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
  CREATE TABLE exact (id int PRIMARY KEY, k int4, s int2, l int8, n numeric, b bool, u uuid, t text, v varchar(10), d date, ts timestamp,
    tz timestamptz, e mood, f float8, c char(3), i text COLLATE folded);
  ALTER TABLE exact ENABLE ROW LEVEL SECURITY;
  CREATE FUNCTION uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('request.jwt.claims', true)::json ->> 'sub', '')::uuid $$;
  CREATE FUNCTION org() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('request.jwt.claims', true)::json ->> 'org' $$;
  CREATE TABLE member (usr uuid, org text, k int4, t text, u uuid, muted bool);
  CREATE TABLE team (k int4, org text);`;

export const COLUMNS = [
  'id',
  'k',
  's',
  'l',
  'n',
  'b',
  'u',
  't',
  'v',
  'd',
  'ts',
  'tz',
  'e',
  'f',
  'c',
  'i',
] as const;

const UUIDS = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222'];
const LONG = `x${'y'.repeat(40)}\u{1f600}x`;
const TEXTS = [
  '',
  'x',
  'x ',
  'X',
  'xy',
  'a%b',
  'é',
  'e\u0301',
  '\u{1f600}',
  "o'hara \\",
  UUIDS[0] ?? '',
  LONG,
  `${LONG}b${LONG}`,
];
const NUMBERS = ['-1', '0', '1', '2', '10'];
const VALUES: Readonly<Record<string, readonly string[]>> = {
  k: [...NUMBERS, '2147483647', '-2147483648'],
  s: [...NUMBERS, '32767'],
  l: [...NUMBERS, '9223372036854775807', '-9223372036854775808', '9007199254740993'],
  n: [
    ...NUMBERS,
    '1.50',
    '1.5',
    '-0.0',
    'NaN',
    'Infinity',
    '-Infinity',
    '9007199254740993.1',
    '0.000000000000000000001',
  ],
  b: ['t', 'f'],
  u: UUIDS,
  t: TEXTS,
  v: TEXTS.map((text) => Array.from(text).slice(0, 10).join('')),
  d: ['2025-06-01', '2025-06-02', 'infinity', '-infinity', '0044-03-15 BC', '5874897-12-31'],
  ts: [
    '2025-06-01 00:00:00',
    '2025-06-01 00:00:00.000001',
    'infinity',
    '0044-03-15 12:00:00 BC',
    '294276-12-31 23:59:59.999999',
  ],
  tz: [
    '2025-06-01 00:00:00+00',
    '2025-06-01 02:00:00+02',
    '-infinity',
    '1883-11-18 12:00:00-05:50:36',
    '0001-01-01 00:00:00+00 BC',
  ],
  e: ['sad', 'ok', 'Happy day'],
  f: ['0.1', 'NaN'],
  c: ['a', 'abc'],
  i: ['x', 'X'],
};
const TYPES: Readonly<Record<string, string>> = {
  k: 'int4',
  s: 'int2',
  l: 'int8',
  n: 'numeric',
  b: 'bool',
  u: 'uuid',
  t: 'text',
  v: 'varchar',
  d: 'date',
  ts: 'timestamp',
  tz: 'timestamptz',
  e: 'public.mood',
  f: 'float8',
  c: 'bpchar',
  i: 'text',
};
/** For a column, the columns that it can be compared with. */
const COMPARABLE: Readonly<Record<string, readonly string[]>> = {
  k: ['k', 's', 'l', 'n'],
  s: ['k', 's', 'l', 'n'],
  l: ['k', 's', 'l', 'n'],
  n: ['k', 's', 'l', 'n'],
  t: ['t', 'v'],
  v: ['t', 'v'],
};

const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;
const claim = (name: string) => `(current_setting('request.jwt.claims', true)::json ->> '${name}')`;
const column = fc.constantFrom(...COLUMNS.slice(1));
const ordered = fc.constantFrom('k', 's', 'l', 'n', 'u', 'd', 'ts', 'tz');
/** Mostly columns of compilable types. */
const common = fc.constantFrom('k', 'k', 's', 'l', 'n', 'u', 'u', 't', 't', 'v', 'd', 'ts', 'tz', 'e', 'b');

function constant(name: string): fc.Arbitrary<string> {
  const value = fc.constantFrom(...(VALUES[name] ?? []));
  const cast = value.map((text) => `${quoted(text)}::${TYPES[name]}`);
  const isNumber = COMPARABLE[name]?.includes('n') === true;
  return fc.oneof(
    cast,
    cast,
    isNumber ? fc.constantFrom('1', '2', '-1', '1.5') : value.map(quoted),
    fc.constant('NULL'),
  );
}

/** Generates expressions that depend on the viewer. */
function viewerExpression(name: string): fc.Arbitrary<string> {
  if (name === 'u')
    return fc.constantFrom('uid()', '(SELECT uid())', `current_setting('app.current_user_id', true)::uuid`);
  if (COMPARABLE[name]?.includes('t') === true)
    return fc.constantFrom(
      'org()',
      `current_setting('app.current_user_id')`,
      claim('org'),
      `lower(${claim('org')})`,
    );
  if (COMPARABLE[name]?.includes('n') === true)
    return fc.constantFrom(`${claim('level')}::int`, `${claim('level')}::numeric`);
  if (name === 'e') return fc.constant(`${claim('mood')}::public.mood`);
  return fc.constant(`${claim('when')}::${TYPES[name]}`);
}

function operandFor(name: string): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 3, arbitrary: viewerExpression(name) },
    { weight: 3, arbitrary: constant(name) },
    { weight: 1, arbitrary: fc.constantFrom(...(COMPARABLE[name] ?? [name])) },
  );
}

const OPERATORS = ['=', '=', '=', '<>', '<', '<=', '>', '>='];
/** Operators for texts: mostly equality, because the order of texts is not compilable. */
const EQUALITY = [...Array.from({ length: 12 }, (_, n) => (n % 3 === 0 ? '<>' : '=')), '<'];
const TEXTUAL: ReadonlySet<string> = new Set(['t', 'v', 'e']);
const PATTERNS = [
  '%',
  'x%',
  '_',
  '%x',
  '%b',
  'a\\%b',
  '%\\',
  'X_',
  '%é%',
  '%_x',
  '_%y%_',
  '%x%y%',
  '\\x%',
  '%\u{1f600}_',
  LONG,
  `%${'y'.repeat(35)}%`,
  `%${'_y'.repeat(20)}%x`,
  `x${'_'.repeat(41)}x%b%`,
];
/** LIKE patterns that PostgreSQL puts together. */
const PATTERN_EXPRESSIONS = [`'x' || '%'`, `lower('%X')`, `'%!_%' ESCAPE '!'`, `NULL`, `'%' || '_y' || '%'`];

function atom(operand: (name: string) => fc.Arbitrary<string>): fc.Arbitrary<string> {
  const of = (names: fc.Arbitrary<string>, make: (name: string) => fc.Arbitrary<string>) => names.chain(make);
  const comparison = of(common, (name) =>
    fc
      .tuple(fc.constantFrom(...(TEXTUAL.has(name) ? EQUALITY : OPERATORS)), operand(name), fc.boolean())
      .map(([operator, right, isSwapped]) =>
        isSwapped ? `${right} ${operator} ${name}` : `${name} ${operator} ${right}`,
      ),
  );
  return fc.oneof(
    { weight: 12, arbitrary: comparison },
    of(common, (name) =>
      fc
        .tuple(fc.constantFrom('IN', 'NOT IN'), fc.array(operand(name), { minLength: 1, maxLength: 3 }))
        .map(([word, list]) => `${name} ${word} (${list.join(', ')})`),
    ),
    of(common, (name) => operand(name).map((right) => `${name} IS NOT DISTINCT FROM ${right}`)),
    of(ordered, (name) =>
      fc
        .tuple(fc.constantFrom('BETWEEN', 'NOT BETWEEN'), operand(name), operand(name))
        .map(([word, from, to]) => `${name} ${word} ${from} AND ${to}`),
    ),
    fc.tuple(column, fc.constantFrom('IS NULL', 'IS NOT NULL')).map((parts) => parts.join(' ')),
    fc.constantFrom(
      'b',
      'b IS NOT TRUE',
      'b IS UNKNOWN',
      'true',
      'k::text = s::text',
      'e::text = t',
      `u::text = t`,
    ),
    fc
      .tuple(
        fc.constantFrom('t', 'v', 'u::text'),
        fc.constantFrom('LIKE', 'NOT LIKE'),
        fc.constantFrom(...PATTERNS.map(quoted), ...PATTERN_EXPRESSIONS),
      )
      .map((parts) => parts.join(' ')),
    // The same text as a value and as a pattern.
    fc.constantFrom(...PATTERNS.map(quoted)).map((text) => `(t = ${text} OR v LIKE ${text})`),
    // Not compilable: only PostgreSQL evaluates these.
    fc.constantFrom(
      `t < 'x'`,
      'f > 0',
      `c = 'a'`,
      `i = 'x'`,
      `lower(t) = 'x'`,
      'k + 1 = l',
      `t ~ '^x'`,
      'k % 2 = 0',
    ),
  );
}

/** Combines leaves with boolean operators, up to `depth` levels deep. */
function tree(leaf: fc.Arbitrary<string>, depth: number): fc.Arbitrary<string> {
  if (depth === 0) return leaf;
  const inner = tree(leaf, depth - 1);
  const pair = fc.tuple(inner, inner);
  return fc.oneof(
    { weight: 3, arbitrary: leaf },
    { weight: 3, arbitrary: pair.map(([a, b]) => `(${a}) AND (${b})`) },
    { weight: 3, arbitrary: pair.map(([a, b]) => `(${a}) OR (${b})`) },
    { weight: 1, arbitrary: inner.map((a) => `NOT (${a})`) },
    { weight: 1, arbitrary: inner.map((a) => `(${a}) IS NOT TRUE`) },
  );
}

const VIEWER_ATOMS = fc.oneof(
  { weight: 6, arbitrary: atom(operandFor) },
  fc.constantFrom(
    `${claim('admin')}::bool`,
    `org() = 'x'`,
    `current_user = 'realtime_subscriber'`,
    't LIKE org()',
    `v NOT LIKE '%' || org() || '%'`,
    `t LIKE ${claim('list')} || '%'`,
    `t = ANY (string_to_array(${claim('list')}, ','))`,
    `u = ANY (string_to_array(${claim('list')}, ',')::uuid[])`,
    `k <> ALL (string_to_array(${claim('levels')}, ',')::int[])`,
  ),
);

/**
 * Membership lists from one table or from a join of two: the column compared, the listed column, and the FROM
 * clause.
 */
const MEMBERSHIPS = [
  ['k', 'm.k', 'member m'],
  ['s', 'm.k', 'member m'],
  ['t', 'm.t', 'member m'],
  ['u', 'm.u', 'member m'],
  ['k', 'm.k', 'member m JOIN team a ON a.k = m.k'],
  ['t', 'a.org', 'member m JOIN team a ON a.k = m.k AND a.org <> m.t'],
] as const;
const MEMBER_CONDITIONS = [
  'm.usr = uid()',
  'uid() = m.usr AND m.muted IS NOT TRUE',
  'm.org = org()',
  `m.org = current_setting('app.current_user_id')`,
  `m.usr = ANY (string_to_array(${claim('list')}, ',')::uuid[])`,
  'NOT m.muted',
];

const membership = fc
  .tuple(
    fc.constantFrom(...MEMBERSHIPS),
    fc.constantFrom(...MEMBER_CONDITIONS),
    fc.constantFrom('IN', 'NOT IN', 'EXISTS', 'NOT EXISTS'),
  )
  .map(([[name, listed, from], condition, word]) =>
    word.endsWith('IN')
      ? `${name} ${word} (SELECT ${listed} FROM ${from} WHERE ${condition})`
      : `${word} (SELECT 1 FROM ${from} WHERE ${listed} = exact.${name} AND ${condition})`,
  );

export interface CompilableWorld {
  readonly policies: readonly { readonly isRestrictive: boolean; readonly expression: string }[];
  readonly condition: string;
  /** Values by column, without the id. */
  readonly rows: readonly (readonly (string | null)[])[];
  /** Rows of `member` and of `team`. */
  readonly members: readonly (readonly (string | null)[])[];
  readonly teams: readonly (readonly (string | null)[])[];
  readonly viewers: readonly { readonly userId: string; readonly claims: string }[];
}

const row = fc.tuple(
  ...COLUMNS.slice(1).map((name) =>
    fc.option(fc.constantFrom(...(VALUES[name] ?? [])), { nil: null, freq: 5 }),
  ),
);

const claims = fc.record(
  {
    sub: fc.constantFrom(...UUIDS, '', 'none'),
    org: fc.constantFrom(...TEXTS),
    level: fc.constantFrom(...NUMBERS, '1.5', 'x'),
    mood: fc.constantFrom('sad', 'Happy day', 'angry'),
    when: fc.constantFrom('2025-06-01', 'infinity', 'never', 't'),
    admin: fc.constantFrom('true', 'false', 'maybe'),
    list: fc.constantFrom('', 'x', `x,xy,${UUIDS[0]}`, UUIDS.join()),
    levels: fc.constantFrom('', '1', '1,2,10', 'NULL'),
  },
  { requiredKeys: [] },
);

const maybe = (name: string) => fc.option(fc.constantFrom(...(VALUES[name] ?? [])), { nil: null, freq: 5 });
const POLICY_ATOMS = fc.oneof({ weight: 5, arbitrary: VIEWER_ATOMS }, { weight: 1, arbitrary: membership });

export const compilableWorld: fc.Arbitrary<CompilableWorld> = fc.record({
  members: fc.array(fc.tuple(maybe('u'), maybe('t'), maybe('k'), maybe('t'), maybe('u'), maybe('b')), {
    maxLength: 6,
  }),
  teams: fc.array(fc.tuple(maybe('k'), maybe('t')), { maxLength: 3 }),
  policies: fc.array(fc.record({ isRestrictive: fc.boolean(), expression: tree(POLICY_ATOMS, 2) }), {
    minLength: 1,
    maxLength: 3,
  }),
  condition: tree(atom(constant), 2),
  rows: fc.array(row, { minLength: 10, maxLength: 20 }),
  viewers: fc.array(
    fc.record({
      userId: fc.constantFrom(...UUIDS, 'ada', ''),
      claims: claims.map((all) => JSON.stringify(all)),
    }),
    { minLength: 4, maxLength: 8 },
  ),
});
