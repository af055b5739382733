/**
 * The result of parsing a setting: its value, or the invalid part of the text unless the setting is secret.
 */
type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly offending: string | undefined };

/** Parses the text of a setting and shows its value. */
export interface SettingType<T> {
  /** Describes valid values; follows "must be" in a message. */
  readonly expects: string;
  /** Stands for the value in `--help`: `number`, `duration`. */
  readonly placeholder: string;
  /**
   * Set if the value, or a part of it, is never printed: `show` masks it, and error messages do not repeat
   * it.
   */
  readonly secret?: true;
  parse(text: string): Parsed<T>;
  /** Returns the value as text. Unless the type is secret, the text parses to the same value. */
  show(value: T): string;
}

/** The parts of a type. `read` returns undefined for an invalid text. */
interface Reader<T> {
  readonly expects: string;
  readonly placeholder: string;
  readonly secret?: true;
  readonly read: (text: string) => T | undefined;
  readonly show?: (value: T) => string;
}

/** Creates a type from a reader. Blanks around the text are ignored, except in a secret. */
export function settingType<T extends {}>(reader: Reader<T>): SettingType<T> {
  const { expects, placeholder, secret, read, show = String } = reader;
  return {
    expects,
    placeholder,
    ...(secret === undefined ? {} : { secret }),
    parse: (text) => {
      const value = read(secret ? text : text.trim());
      return value === undefined ? { ok: false, offending: secret ? undefined : text } : { ok: true, value };
    },
    show,
  };
}

/** Creates a type of several values, separated by commas. Empty items are ignored. */
export function listType<T extends {}>(item: Reader<T>): SettingType<readonly T[]> {
  const show = item.show ?? String;
  return {
    expects: `${item.expects}, separated by commas`,
    placeholder: item.placeholder,
    parse: (text) => {
      const values: T[] = [];
      for (const part of text.split(',').map((raw) => raw.trim())) {
        if (part === '') continue;
        const value = item.read(part);
        if (value === undefined) return { ok: false, offending: part };
        values.push(value);
      }
      return { ok: true, value: values };
    },
    show: (values) => values.map(show).join(', '),
  };
}
