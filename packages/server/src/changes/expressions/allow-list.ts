/**
 * What a condition may call and use. The result of each depends on its arguments alone (and on settings that are pinned
 * in our sessions), reads no table, and is at most twice as long as its arguments. PostgreSQL can interrupt few of them
 * in one evaluation, so each has a cost: the nanoseconds that it takes at most for each byte of its arguments.
 */
export interface Rule {
  readonly cost: number;
  /** The cost where all its arguments read columns, and none is short. */
  readonly costOfColumns?: number;
  /** What its literal arguments add to the cost: they are searched for everywhere in the others. */
  readonly costOfLiterals?: (literals: readonly string[]) => number;
  /** The number of the first argument, from 0, that must be a literal, and so must all after it. */
  readonly literalsFrom?: number;
  /** The most that these literals may be as numbers. */
  readonly maxNumber?: number;
  /** Whether its time is quadratic in the digits of its arguments. */
  readonly isQuadratic?: boolean;
  /** Whether it compares each element of one argument with each of the other. */
  readonly comparesElements?: boolean;
}

/** PostgreSQL looks for each part of a LIKE pattern after a `%` everywhere in the text, but skips leading `_`. */
const PATTERN: Rule = {
  cost: 10,
  literalsFrom: 1,
  costOfLiterals: (patterns) => sum(patterns, (pattern) => 3 * longest(pattern.split(/(?<!\\)%_*/).slice(1))),
};
const CASELESS_PATTERN: Rule = { ...PATTERN, cost: 30 };
const REGEX: Rule = { cost: 20, literalsFrom: 1 };
const SEARCH: Rule = { cost: 10, literalsFrom: 1, costOfLiterals: (texts) => 2 * longest(texts) };
const TRIM: Rule = { cost: 12, literalsFrom: 1, costOfLiterals: (texts) => 5 * longest(texts) };
const ARITHMETIC: Rule = { cost: 1, isQuadratic: true };
const CONTAINS: Rule = {
  cost: 8,
  comparesElements: true,
  // The elements of an ARRAY, or those of an array or a JSON value that is written as a text.
  costOfLiterals: (literals) => 10 * sum(literals, (text) => text.split(/[,[{]/).length),
};

export const FUNCTIONS: ReadonlyMap<string, Rule> = rules(
  // text
  ['ascii bit_length md5 octet_length', { cost: 3 }],
  ['char_length character_length length left right reverse', { cost: 10 }],
  ['lower starts_with', { cost: 20 }],
  ['substr substring', { cost: 10, literalsFrom: 1 }],
  ['position split_part strpos', SEARCH],
  ['btrim ltrim rtrim', TRIM],
  ['like_escape', { cost: 0, literalsFrom: 0 }],
  // numbers
  ['abs ceil ceiling floor scale sign', { cost: 1 }],
  ['round trunc', { cost: 1, literalsFrom: 1, maxNumber: 1_000 }],
  ['div mod sqrt', ARITHMETIC],
  // dates and times
  ['date_part date_trunc extract isfinite', { cost: 1 }],
  // arrays, ranges, JSON
  ['array_length array_lower array_ndims array_upper cardinality', { cost: 4 }],
  ['array_position', { cost: 10 }],
  ['isempty lower_inc lower_inf upper_inc upper_inf', { cost: 1 }],
  ['json_array_length json_typeof jsonb_array_length jsonb_typeof', { cost: 10 }],
);

/** Functions with variants that are not immutable: they depend on the time zone or an encoding, which we pin. */
export const WITH_STABLE_VARIANTS: ReadonlySet<string> = words('date_part date_trunc extract length');

export const OPERATORS: ReadonlyMap<string, Rule> = rules(
  ['= <>', { cost: 3, costOfColumns: 20 }],
  ['< <= > >=', { cost: 20 }],
  ['+ | & # << >> &< &> -|-', { cost: 3 }],
  ['-', { cost: 8 }],
  ['* / %', ARITHMETIC],
  ['~~ !~~', PATTERN],
  ['~~* !~~*', CASELESS_PATTERN],
  ['~ ~* !~ !~*', REGEX],
  ['^@', { cost: 20 }],
  ['-> ->> #> #>> ?', { cost: 16 }],
  ['@> <@ && ?| ?&', CONTAINS],
);

/** Types that a value may be cast to, by their names in PostgreSQL's parse tree. */
export const TYPES: ReadonlySet<string> = words(
  'bool int2 int4 int8 float4 float8 numeric text varchar bpchar name uuid bytea',
  'date time timestamp timestamptz interval json jsonb inet cidr macaddr macaddr8 money',
  'int4range int8range numrange daterange tsrange tstzrange',
);

/** Types that only a literal may be cast to: the value of a text can be much longer than the text. */
export const TYPES_OF_LITERALS: ReadonlySet<string> = words(
  'jsonb int4range int8range numrange daterange tsrange tstzrange',
);

/** Types whose input accepts words for the current time, such as `now`. */
export const TIME_TYPES: ReadonlySet<string> = words(
  'date time timetz timestamp timestamptz daterange tsrange tstzrange',
);

/** What to use instead of functions and operators that are not on the list, for messages. */
export const INSTEAD: ReadonlyMap<string, string> = new Map([
  ...each('upper initcap', 'use lower()'),
  ...each('concat concat_ws format ||', 'compare the parts one by one'),
  ...each('replace translate regexp_replace overlay', 'use LIKE, or ~ for a regular expression'),
  ...each('regexp_match regexp_matches regexp_like', 'use ~ for a regular expression'),
  ...each('lpad rpad repeat', 'write the text as a literal'),
  ...each('string_to_array regexp_split_to_array', 'use split_part()'),
  ...each('to_json to_jsonb row_to_json', 'compare the value itself'),
  ...each('to_date to_timestamp', 'use a literal, or a column with the type of a time'),
  ...each('to_char', 'use extract() or date_trunc()'),
  ...each('now clock_timestamp statement_timestamp transaction_timestamp age', 'use a literal'),
  ...each('^ power pow exp', 'use *'),
]);

function rules(...lines: readonly (readonly [names: string, rule: Rule])[]): ReadonlyMap<string, Rule> {
  return new Map(lines.flatMap(([names, rule]) => each(names, rule)));
}

function each<T>(names: string, value: T): (readonly [string, T])[] {
  return names.split(' ').map((name) => [name, value] as const);
}

function longest(texts: readonly string[]): number {
  return Math.max(0, ...texts.map((text) => Buffer.byteLength(text)));
}

function sum(texts: readonly string[], sizeOf: (text: string) => number): number {
  return texts.reduce((total, text) => total + sizeOf(text), 0);
}

function words(...lines: readonly string[]): ReadonlySet<string> {
  return new Set(lines.flatMap((line) => line.split(' ')));
}
