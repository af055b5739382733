import { JsonText } from './json-text.js';

const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const OPEN_BRACKET = 91;
const BACKSLASH = 92;
const CLOSE_BRACKET = 93;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;
const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** JSON is nested deeper than the caller accepts. */
export class TooDeep extends Error {
  override readonly name = 'TooDeep';
}

/**
 * Returns the texts of the members of the outermost object, by key, in one pass: of equal keys the last, as JSON.parse
 * does. There are none where the outermost value is no object. A text is what was written, without surrounding
 * whitespace and without line breaks, which in JSON are never part of a value. Text that is not JSON may throw, or
 * give anything. Throws TooDeep.
 */
export function memberTexts(json: string, maxDepth = Number.POSITIVE_INFINITY): Map<string, JsonText> {
  const members = new Map<string, JsonText>();
  let depth = 0;
  let keyStart = 0;
  let keyEnd = 0;
  let valueStart = -1;
  const endMember = (valueEnd: number) => {
    if (valueStart === -1) return;
    members.set(
      keyOf(json, keyStart, keyEnd),
      new JsonText(oneLine(json.slice(valueStart, valueEnd).trim())),
    );
    valueStart = -1;
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
    } else if (depth === 1) {
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

function oneLine(text: string): string {
  if (!text.includes('\n') && !text.includes('\r')) return text;
  const bytes = Buffer.from(text);
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    if (byte !== LINE_FEED && byte !== CARRIAGE_RETURN) bytes[length++] = byte;
  }
  return bytes.toString('utf8', 0, length);
}
