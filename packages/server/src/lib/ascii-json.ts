import { stringify } from './json-text.js';

const ABOVE_ASCII = /[^\0-\x7f]/g;

/** Serializes like `stringify`, with ASCII characters only, which every encoding of a database has. */
export function asciiJson(value: unknown): string {
  return stringify(value).replace(
    ABOVE_ASCII,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
