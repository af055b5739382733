import fc from 'fast-check';

/** Numbers as JSON may write them: beyond a double's range and digits, with exponents, signs and zeros. */
export const numberText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom('0', '-0', '1.0', '1e2', '1E400', '-1E-400', '0.1000', '1152921506151679042'),
  fc
    .tuple(
      fc.constantFrom('', '-'),
      fc.bigInt({ min: 0n, max: 10n ** 40n }),
      fc.option(fc.stringMatching(/^\d{1,30}$/), { nil: undefined }),
      fc.option(fc.stringMatching(/^[eE][+-]?\d{1,4}$/), { nil: '' }),
    )
    .map(
      ([sign, whole, fraction, exponent]) =>
        `${sign}${whole}${fraction === undefined ? '' : `.${fraction}`}${exponent}`,
    ),
);

const PLAIN = ['a', 'payload', '[', ']', '{', '}', ',', ':', ' ', 'é', '😀', '\u2028', '/'];
const ESCAPES = ['\\"', '\\\\', '\\/', '\\n', '\\u0000', '\\u005b', '\\ud800', '\\uDE00', '\\u0022'];

/** Strings as JSON may write them: with brackets, quotes, escapes, lone surrogates and other scripts. */
export const stringText: fc.Arbitrary<string> = fc
  .array(fc.oneof(fc.constantFrom(...PLAIN), fc.constantFrom(...ESCAPES)), { maxLength: 8 })
  .map((parts) => `"${parts.join('')}"`);

const whitespace = fc.stringMatching(/^[ \t\r\n]{0,3}$/);

/** JSON values as text, with whitespace, and with equal keys within an object. */
export const valueText: fc.Arbitrary<string> = fc.letrec<{ value: string; member: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    numberText,
    stringText,
    fc.constantFrom('true', 'false', 'null', '[]', '{}'),
    listOf(tie('value'), '[', ']'),
    listOf(tie('member'), '{', '}'),
  ),
  member: fc
    .tuple(stringText, whitespace, tie('value'))
    .map(([key, space, value]) => `${key}${space}:${space}${value}`),
})).value;

/** Writes values between brackets, with whitespace around each. */
function listOf(item: fc.Arbitrary<string>, open: string, close: string): fc.Arbitrary<string> {
  return fc
    .array(fc.tuple(whitespace, item, whitespace), { maxLength: 4 })
    .map((items) => open + items.map((parts) => parts.join('')).join(',') + close);
}

/** An object as text, with the keys and values that it was written from. */
export interface WrittenObject {
  readonly text: string;
  /** As JSON: the key's quotes and escapes are part of it. */
  readonly members: readonly (readonly [key: string, value: string])[];
}

/** Objects of members with these keys, among others, in any order, each any number of times. */
export function objectText(...keys: readonly string[]): fc.Arbitrary<WrittenObject> {
  const key = fc.oneof(fc.constantFrom(...keys), stringText);
  const member = fc.tuple(key, valueText, whitespace);
  return fc
    .tuple(whitespace, fc.array(member, { maxLength: 6 }), whitespace)
    .map(([before, members, after]) => ({
      text: `${before}{${members.map(([name, value, space]) => `${space}${name}${space}:${space}${value}${space}`).join(',')}}${after}`,
      members: members.map(([name, value]) => [name, value] as const),
    }));
}

/** Returns a JSON text without the whitespace between its tokens. */
export function compact(text: string): string {
  return text.replaceAll(/("(?:[^"\\]|\\.)*")|\s+/g, '$1');
}
