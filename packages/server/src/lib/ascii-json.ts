const ABOVE_ASCII = /[^\0-\x7f]/g;

/** Returns a JSON value as text of ASCII characters only, which every encoding of a database has. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    ABOVE_ASCII,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
