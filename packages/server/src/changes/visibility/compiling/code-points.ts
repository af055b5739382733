/** Stands for `_` among the code points of a LIKE pattern. */
export const ANY_CHARACTER = -1;

/** Returns the code point at an index of the text, which must be less than its length. */
export function codePointAt(text: string, index: number): number {
  const unit = text.charCodeAt(index);
  if ((unit & 0xfc00) !== 0xd800) return unit;
  const next = text.charCodeAt(index + 1);
  return (next & 0xfc00) === 0xdc00 ? ((unit - 0xd800) << 10) + next + 0x2400 : unit;
}

/** Returns how many UTF-16 code units a code point has; for any character, the fewest. */
export function unitsOf(code: number): number {
  return code > 0xffff ? 2 : 1;
}
