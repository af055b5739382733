import { JsonText } from './json-text.js';

const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const OPEN_BRACKET = 91;
const BACKSLASH = 92;
const CLOSE_BRACKET = 93;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;
/** The greatest of the whitespace characters, which are the only ones up to it that JSON has outside of strings. */
const SPACE = 32;

/** JSON is nested deeper than the caller accepts. */
export class TooDeep extends Error {
  override readonly name = 'TooDeep';
}

/**
 * Returns the texts of the members of the outermost object, by key, in one pass: of equal keys the last, as JSON.parse
 * does. There are none where the outermost value is no object. A text is what was written, without the whitespace
 * between its tokens. Text that is not JSON may throw, or give anything. Throws TooDeep.
 */
export function memberTexts(json: string, maxDepth = Number.POSITIVE_INFINITY): Map<string, JsonText> {
  const members = new Map<string, JsonText>();
  let depth = 0;
  let keyStart = 0;
  let keyEnd = 0;
  let valueStart = -1;
  let isSpaced = false;
  const endMember = (valueEnd: number) => {
    if (valueStart === -1) return;
    const text = json.slice(valueStart, valueEnd);
    members.set(keyOf(json, keyStart, keyEnd), new JsonText(isSpaced ? withoutSpaces(text) : text));
    valueStart = -1;
    isSpaced = false;
  };
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) {
      const end = endOfString(json, at);
      if (depth === 1 && valueStart === -1) {
        keyStart = at + 1;
        keyEnd = end;
      }
      at = end;
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth += 1;
      if (depth > maxDepth) throw new TooDeep();
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      depth -= 1;
      if (depth === 0) endMember(at);
    } else if (code <= SPACE) isSpaced = true;
    else if (depth === 1) {
      if (code === COMMA) endMember(at);
      else if (code === COLON) valueStart = at + 1;
    }
  }
  return members;
}

/** Returns the position of the quote that ends the string that starts at `start`. */
function endOfString(json: string, start: number): number {
  for (let end = json.indexOf('"', start + 1); end !== -1; end = json.indexOf('"', end + 1)) {
    let before = end - 1;
    while (json.charCodeAt(before) === BACKSLASH) before -= 1;
    // An even number of backslashes: they escape each other, not the quote.
    if ((end - before) % 2 === 1) return end;
  }
  return json.length;
}

function keyOf(json: string, start: number, end: number): string {
  const key = json.slice(start, end);
  return key.includes('\\') ? String(JSON.parse(`"${key}"`)) : key;
}

function withoutSpaces(text: string): string {
  const bytes = Buffer.from(text);
  let length = 0;
  let isInString = false;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    if (byte <= SPACE && !isInString) continue;
    bytes[length++] = byte;
    if (byte === QUOTE) isInString = !isInString;
    else if (byte === BACKSLASH) bytes[length++] = bytes[++at] ?? 0;
  }
  return bytes.toString('utf8', 0, length);
}
