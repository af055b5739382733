/** Integers of up to 15 digits: JavaScript holds them exactly and prints the same text. */
const SMALL_INTEGER = /^(?:0|-?[1-9]\d{0,14})$/;
const DECIMAL = /^(-?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/;

/**
 * Converts a number in PostgreSQL's text form to JSON. The result is a JSON number if `String(Number(text))` is the
 * same decimal, and a string otherwise, as for NaN and infinity.
 */
export function numberJson(text: string): string {
  if (SMALL_INTEGER.test(text)) return text;
  const number = Number(text);
  if (!Number.isFinite(number)) return `"${text}"`;
  const printed = String(number);
  return printed === text || normalized(printed) === normalized(text) ? printed : `"${text}"`;
}

/** Returns the same text for equal decimals: the significant digits, and their power of ten. */
function normalized(text: string): string {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = DECIMAL.exec(text) ?? [];
  const digits = (whole + fraction).replace(/^0+/, '');
  const significant = withoutZerosAtEnd(digits);
  if (significant === '') return '0';
  return `${sign}${significant}e${Number(exponent) - fraction.length + (digits.length - significant.length)}`;
}

/** Reads each zero once: a regular expression would read a run of zeros again from each of them. */
function withoutZerosAtEnd(digits: string): string {
  let end = digits.length;
  while (digits[end - 1] === '0') end -= 1;
  return digits.slice(0, end);
}
