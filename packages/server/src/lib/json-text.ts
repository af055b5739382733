/**
 * JSON text that becomes part of other JSON as it is. Values that clients send stay in this form: parsing and
 * printing them again would change large and long numbers. The text is one line.
 */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  /** Returns a copy to keep: V8 holds on to a whole message for as long as a part of its text is in use. */
  copy(): JsonText {
    return new JsonText(Buffer.from(this.text).toString());
  }

  /** JSON.stringify cannot insert text, so it must never meet one. */
  toJSON(): never {
    throw new Error('JSON.stringify was called on a JsonText: use stringify');
  }
}

export const EMPTY_OBJECT = new JsonText('{}');

/** Serializes like JSON.stringify, with each JsonText, also in nested plain objects, inserted as it is. */
export function stringify(value: unknown): string {
  return textOf(value) ?? 'null';
}

/** Returns undefined for what JSON.stringify omits. */
function textOf(value: unknown): string | undefined {
  if (value instanceof JsonText) return value.text;
  if (!isPlainObject(value)) return JSON.stringify(value) as string | undefined;
  let members = '';
  for (const [key, member] of Object.entries(value)) {
    const text = textOf(member);
    if (text !== undefined) members += `${members === '' ? '' : ','}${JSON.stringify(key)}:${text}`;
  }
  return `{${members}}`;
}

function isPlainObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
