/** What reading a setting's text gave. A refusal carries the part that was wrong, unless that must not be printed. */
type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly offending: string | undefined };

/** How the text of a setting becomes a value and is shown again. */
export interface SettingType<T> {
  /** What a value has to be; follows "must be" in a message. */
  readonly expects: string;
  /** What stands for the value in `--help`: `number`, `duration`. */
  readonly placeholder: string;
  /** Set where the value, or a part of it, is never printed: `show` hides it and refusals do not repeat it. */
  readonly secret?: true;
  parse(text: string): Parsed<T>;
  /** The value for people; for a type that is not secret, a text that parses to the same value. */
  show(value: T): string;
}

/** The parts of a type whose reader answers undefined for a text that it refuses. */
interface Reader<T> {
  readonly expects: string;
  readonly placeholder: string;
  readonly secret?: true;
  readonly read: (text: string) => T | undefined;
  readonly show?: (value: T) => string;
}

/** A type made of a reader. Blanks around the text do not count, except in a secret, where every byte does. */
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

/** A type of several values separated by commas; empty items do not count. A refusal carries the item that was wrong. */
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
