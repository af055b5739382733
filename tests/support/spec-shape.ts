/**
 * How an answer departs from the one that the document shows: fields that are missing, of another kind or not
 * in the document; texts in `message`, `error`, `code` and `details` that differ. `extra` are fields that
 * PROTOCOL.md adds. Empty where nothing departs.
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
      const place = `${path}.${key}`;
      if (!(key in actual)) return [`${place} is missing`];
      if (!(key in documented)) return extra.includes(key) ? [] : [`${place} is not in the document`];
      return departures(documented[key], actual[key], extra, place);
    });
  }
  if (/\.(message|error|code|details)$/.test(path) && documented !== actual) {
    return [`${path} is ${JSON.stringify(actual)}, not ${JSON.stringify(documented)}`];
  }
  const [expected, found] = [kindOf(documented), kindOf(actual)];
  return expected === found ? [] : [`${path} is of the kind ${found}, not ${expected}`];
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
