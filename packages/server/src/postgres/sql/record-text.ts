/**
 * Splits the text of a composite value, as `record_out` writes it, into its fields (PostgreSQL manual,
 * "Composite Type Input and Output Syntax"). An empty unquoted field is NULL; quotes and backslashes are
 * doubled. Throws when the text is not a composite value.
 */
export function recordFields(text: string): (string | null)[] {
  if (text[0] !== '(' || text.at(-1) !== ')') throw new Error('not a composite value');
  const fields: (string | null)[] = [];
  const last = text.length - 1;
  let at = 1;
  for (;;) {
    if (text[at] === '"') {
      const { value, end } = quotedField(text, at + 1);
      fields.push(value);
      at = end;
    } else {
      const comma = text.indexOf(',', at);
      const end = comma === -1 || comma > last ? last : comma;
      fields.push(end === at ? null : text.slice(at, end));
      at = end;
    }
    if (at >= last) return fields;
    if (text[at] !== ',') throw new Error('not a composite value');
    at += 1;
  }
}

function quotedField(text: string, start: number): { value: string; end: number } {
  let value = '';
  let from = start;
  for (let at = start; at < text.length; at++) {
    const char = text[at];
    if (char !== '"' && char !== '\\') continue;
    value += text.slice(from, at);
    if (char === '"' && text[at + 1] !== '"') return { value, end: at + 1 };
    at += 1;
    from = at;
  }
  throw new Error('not a composite value');
}
