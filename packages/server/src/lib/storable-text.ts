const LONE_SURROGATE = /\p{Cs}/u;

/** Returns whether PostgreSQL can store a text in UTF8: it has neither NUL nor half of a surrogate pair. */
export function isStorableText(text: string): boolean {
  return !text.includes('\0') && !LONE_SURROGATE.test(text);
}
