/**
 * The functions that a condition may call. Their result depends on their arguments alone (and on the time zone, which
 * is UTC in all our sessions), they read no table, and they cannot grow a value without bound.
 */
export const FUNCTIONS = words(
  // text
  'ascii bit_length btrim char_length character_length initcap left length lower ltrim md5 octet_length position',
  'replace reverse right rtrim split_part starts_with strpos substr substring translate upper like_escape',
  // numbers
  'abs ceil ceiling div floor gcd lcm mod round scale sign sqrt trunc',
  // dates and times
  'date_part date_trunc extract isfinite',
  // arrays, ranges, JSON
  'array_length array_lower array_ndims array_position array_upper cardinality',
  'isempty lower_inc lower_inf upper_inc upper_inf',
  'json_array_length json_typeof jsonb_array_length jsonb_typeof',
);

/** Functions with variants that are not immutable: they depend on the time zone or an encoding, which we pin. */
export const WITH_STABLE_VARIANTS = words('date_part date_trunc extract length');

export const OPERATORS = words(
  '= <> < <= > >= + - * / % || & | # ~ << >> ~~ !~~ ~~* !~~* ~* !~ !~* ^@',
  '-> ->> #> #>> @> <@ ? ?| ?& && -|- &< &>',
);

/** Types that a value may be cast to, by their names in PostgreSQL's parse tree. */
export const TYPES = words(
  'bool int2 int4 int8 float4 float8 numeric text varchar bpchar name uuid bytea bit varbit',
  'date time timetz timestamp timestamptz interval json jsonb inet cidr macaddr macaddr8 money',
  'int4range int8range numrange daterange tsrange tstzrange',
);

/** Types whose input accepts words for the current time, such as `now`. */
export const TIME_TYPES = words('date time timetz timestamp timestamptz');

function words(...lines: readonly string[]): ReadonlySet<string> {
  return new Set(lines.flatMap((line) => line.split(' ')));
}
