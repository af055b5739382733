/**
 * Types whose values are compared with each other, in process, as PostgreSQL compares them. PostgreSQL alone compares
 * values without a family: floating point, text order, char(n), intervals, JSON, arrays, domains.
 */
export interface Family {
  readonly name: string;
  /** False: values are only compared for equality. */
  readonly isOrdered: boolean;
  /** Parses the text that PostgreSQL writes. The results are equal for equal values. */
  readonly parse: (text: string) => Value;
  /** Below 0 where `a` comes first. */
  readonly compare: (a: Value, b: Value) => number;
}

export type Value = string | bigint;

/** The built-in types by oid: the family, and the name in SQL. */
const BUILT_IN: ReadonlyMap<number, readonly [family: string, type: string]> = new Map([
  [16, ['bool', 'bool']],
  [20, ['number', 'int8']],
  [21, ['number', 'int2']],
  [23, ['number', 'int4']],
  [25, ['text', 'text']],
  [1043, ['text', 'varchar']],
  [1082, ['date', 'date']],
  [1114, ['timestamp', 'timestamp']],
  [1184, ['timestamptz', 'timestamptz']],
  [1700, ['number', 'numeric']],
  [2950, ['uuid', 'uuid']],
]);

const FAMILIES: ReadonlyMap<string, Family> = new Map(
  [
    family('bool', (text) => (text.startsWith('t') ? 't' : 'f')),
    family('uuid', (text) => text),
    family('text', (text) => text, false),
    { name: 'number', isOrdered: true, parse: canonicalNumber, compare: compareNumbers },
    family('date', microseconds),
    family('timestamp', microseconds),
    family('timestamptz', microseconds),
  ].map((known) => [known.name, known]),
);

/**
 * Returns SQL for the family name of a column's or an expression's type, or NULL. `type` and `collation`: SQL for the oids
 * of the type and of its collation.
 */
export function familySql(type: string, collation?: string): string {
  const cases = [...BUILT_IN].map(([oid, [name]]) => `WHEN ${oid} THEN '${name}'`);
  const isText = `${type} IN (25, 1043)`;
  const isEqualByBytes =
    collation === undefined
      ? 'true'
      : `(SELECT c.collisdeterministic FROM pg_catalog.pg_collation c WHERE c.oid = ${collation})`;
  return `CASE WHEN ${isText} AND NOT ${isEqualByBytes} THEN NULL
    ELSE CASE ${type}::int8 ${cases.join(' ')}
      ELSE (SELECT 'enum ' || t.oid FROM pg_catalog.pg_type t WHERE t.oid = ${type} AND t.typtype = 'e') END END`;
}

/** Returns the family with this name. The family of an enum compares labels for equality. */
export function familyOf(name: string): Family {
  return FAMILIES.get(name) ?? family(name, (text) => text, false);
}

/** Returns the name in SQL of the type that an untyped literal gets beside a value of this type; undefined for an enum. */
export function plainTypeName(oid: number): string | undefined {
  const name = BUILT_IN.get(oid)?.[1];
  return name === undefined ? undefined : `pg_catalog.${name}`;
}

function family(name: string, parse: (text: string) => Value, isOrdered = true): Family {
  return { name, isOrdered, parse, compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0) };
}

/** Ranks of numbers; '' stands for all finite ones. NaN equals itself and is greater than everything else. */
const SPECIAL: readonly string[] = ['-Infinity', '', 'Infinity', 'NaN'];

/** Removes insignificant zeros: 1.50 becomes 1.5. Reads each digit once, since a number can have many. */
function canonicalNumber(text: string): string {
  const sign = text.startsWith('-') ? 1 : 0;
  if (!isDigit(text.charCodeAt(sign))) return text;
  const point = text.indexOf('.');
  let end = text.length;
  if (point !== -1) {
    while (text.charCodeAt(end - 1) === ZERO) end -= 1;
    if (end - 1 === point) end = point;
  }
  const lastOfWhole = (point === -1 ? end : point) - 1;
  let start = sign;
  while (start < lastOfWhole && text.charCodeAt(start) === ZERO) start += 1;
  const digits = text.slice(start, end);
  return sign === 0 || digits === '0' ? digits : `-${digits}`;
}

const ZERO = 48;

function isDigit(unit: number): boolean {
  return unit >= ZERO && unit < ZERO + 10;
}

function compareNumbers(a: Value, b: Value): number {
  const [left, right] = [String(a), String(b)];
  const rank = rankOf(left) - rankOf(right);
  if (rank !== 0 || rankOf(left) !== 1) return rank;
  const isNegative = left.startsWith('-');
  if (isNegative !== right.startsWith('-')) return isNegative ? -1 : 1;
  return isNegative ? compareDigits(right.slice(1), left.slice(1)) : compareDigits(left, right);
}

function rankOf(number: string): number {
  const rank = SPECIAL.indexOf(number);
  return rank === -1 ? 1 : rank;
}

function compareDigits(a: string, b: string): number {
  const difference = wholeDigits(a) - wholeDigits(b);
  if (difference !== 0) return difference;
  // If the whole parts are equally long, the texts sort as the numbers do, fractions included.
  return a < b ? -1 : a > b ? 1 : 0;
}

function wholeDigits(number: string): number {
  const point = number.indexOf('.');
  return point === -1 ? number.length : point;
}

const TIME =
  /^(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?)?( BC)?$/;
const INFINITY = 1n << 70n;
const DAY = 86_400_000_000n;

/**
 * Parses a date or a time in ISO style to microseconds since 1970. Infinities come before and after everything else.
 * Throws for another style.
 */
function microseconds(text: string): bigint {
  if (text === 'infinity') return INFINITY;
  if (text === '-infinity') return -INFINITY;
  const [, y, mo, d, h = '0', mi = '0', s = '0', fraction = '', sign, zh = '0', zm = '0', zs = '0', era] =
    TIME.exec(text) ?? [];
  if (y === undefined) throw new Error('a date or a time in another style than ISO');
  const year = era === undefined ? Number(y) : 1 - Number(y);
  const seconds = BigInt(Number(h) * 3600 + Number(mi) * 60 + Number(s));
  const zone = BigInt(Number(zh) * 3600 + Number(zm) * 60 + Number(zs)) * (sign === '-' ? -1n : 1n);
  return (
    daysSince1970(year, Number(mo), Number(d)) * DAY +
    (seconds - zone) * 1_000_000n +
    BigInt(fraction.padEnd(6, '0'))
  );
}

/** Counts days in the proleptic Gregorian calendar, as PostgreSQL does. */
function daysSince1970(year: number, month: number, day: number): bigint {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return BigInt(era * 146_097 + dayOfEra - 719_468);
}
