const MAX_LENGTH = 100;
/** Control and format characters, line and paragraph separators, and lone surrogates: they move or forge what is read. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A client's text in quotes, for a log line or an answer: at most 100 characters, with unprintable ones escaped. */
export function shownText(text: string): string {
  const short = text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
  const escaped = short.replaceAll(/["\\]/g, '\\$&').replaceAll(UNPRINTABLE, escapedCharacter);
  return `"${escaped}"`;
}

function escapedCharacter(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
