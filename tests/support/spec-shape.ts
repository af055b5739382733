/**
 * Returns how an answer differs from the document's: fields that are missing, of another type or not in the
 * document, and different texts in `message`, `error`, `code` and `details`. `extra` names the fields that
 * PROTOCOL.md adds.
 */
export function departures(
  documented: unknown,
  actual: unknown,
  extra: readonly string[] = [],
  path = 'answer',
): string[] {
  if (Array.isArray(documented) && Array.isArray(actual)) {
    const [example] = documented as unknown[];
    const elements = actual as unknown[];
    if (elements.length === 0) return [`${path} is empty`];
    return elements.flatMap((element, index) => departures(example, element, extra, `${path}[${index}]`));
  }
  if (isObject(documented) && isObject(actual)) {
    return [...new Set([...Object.keys(documented), ...Object.keys(actual)])].flatMap((key) => {
      const field = `${path}.${key}`;
      if (!(key in actual)) return [`${field} is missing`];
      if (!(key in documented)) return extra.includes(key) ? [] : [`${field} is not in the document`];
      return departures(documented[key], actual[key], extra, field);
    });
  }
  if (/\.(message|error|code|details)$/.test(path) && documented !== actual) {
    return [`${path} is ${JSON.stringify(actual)}, not ${JSON.stringify(documented)}`];
  }
  const [expected, found] = [kindOf(documented), kindOf(actual)];
  return expected === found ? [] : [`${path} is of type ${found}, not ${expected}`];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value !== 'string') return typeof value;
  if (/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value)) return 'time';
  return /^msg_\d+_\w+$/.test(value) ? 'message id' : 'string';
}
