const MAX_LENGTH = 100;
/**
 * Control and format characters, line and paragraph separators: in a line of text they can hide or forge what
 * is read.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/**
 * Returns a user's text in quotes, for a log line or a message: at most 100 characters of it, on one line,
 * with unprintable characters escaped.
 */
export function quotedText(text: string): string {
  const short = text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
  // JSON escapes quotes, most control characters and lone surrogates.
  return JSON.stringify(short).replaceAll(UNPRINTABLE, escapeCharacter);
}

function escapeCharacter(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
