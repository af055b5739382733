/** Converts the text of one element to JSON. */
type ElementJson = (text: string) => string;

/**
 * Converts an array in the text form of `array_out` (PostgreSQL manual, "Array Input and Output Syntax") to JSON:
 * nested for several dimensions, without lower bounds. Throws if the text is not an array.
 */
export function arrayJson(text: string, delimiter: string, element: ElementJson): string {
  // A prefix such as [0:2]= gives the bounds.
  const start = text[0] === '[' ? text.indexOf('=') + 1 : 0;
  let json = '';
  let at = start;
  while (at < text.length) {
    const char = text[at];
    if (char === '{') {
      json += '[';
      at += 1;
    } else if (char === '}') {
      json += ']';
      at += 1;
    } else if (char === delimiter) {
      json += ',';
      at += 1;
    } else if (char === '"') {
      const { value, end } = quotedElement(text, at + 1);
      json += element(value);
      at = end;
    } else {
      const end = bareEnd(text, at, delimiter);
      const bare = text.slice(at, end);
      json += bare === 'NULL' ? 'null' : element(bare);
      at = end;
    }
  }
  if (!json.startsWith('[') || !json.endsWith(']')) throw new Error('not an array');
  return json;
}

function bareEnd(text: string, start: number, delimiter: string): number {
  let end = start;
  while (end < text.length && text[end] !== delimiter && text[end] !== '}') end += 1;
  return end;
}

/** Reads a quoted element, in which a backslash escapes the next character. */
function quotedElement(text: string, start: number): { value: string; end: number } {
  let value = '';
  let from = start;
  for (let at = start; at < text.length; at++) {
    const char = text[at];
    if (char === '"') return { value: value + text.slice(from, at), end: at + 1 };
    if (char !== '\\') continue;
    value += text.slice(from, at);
    at += 1;
    from = at;
  }
  throw new Error('not an array');
}
