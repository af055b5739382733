/** Whole numbers of so few digits are exact in JavaScript, and written alike. */
const SMALL_INTEGER = /^(?:0|-?[1-9]\d{0,14})$/;
const DECIMAL = /^(-?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/;

/**
 * The JSON of a number as PostgreSQL writes it: a number where a JavaScript number denotes it, that is where
 * `String(Number(text))` is the same decimal, and a string otherwise, as for NaN and infinity.
 */
export function numberJson(text: string): string {
  if (SMALL_INTEGER.test(text)) return text;
  const number = Number(text);
  if (!Number.isFinite(number)) return `"${text}"`;
  const written = String(number);
  return written === text || normal(written) === normal(text) ? written : `"${text}"`;
}

/** Equal for equal decimals: the digits without zeros at their ends, and the power of ten that they are of. */
function normal(text: string): string {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = DECIMAL.exec(text) ?? [];
  const digits = (whole + fraction).replace(/^0+/, '');
  const significant = digits.replace(/0+$/, '');
  if (significant === '') return '0';
  return `${sign}${significant}e${Number(exponent) - fraction.length + (digits.length - significant.length)}`;
}
