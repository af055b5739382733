import type { WalRelation } from '../../postgres/source/change-source.js';
import { recordFields } from '../../postgres/sql/record-text.js';
import type { Sql } from '../../postgres/sql/sql.js';
import type { RowImage } from '../model/row-image.js';
import { arrayJson } from './array-text.js';
import { numberJson } from './json-number.js';
import { readTypes, type TypeFacts } from './type-catalog.js';

/** Converts a value, as its type's output function writes it, to the JSON that `to_jsonb` returns for it. */
export type ValueFormat = (text: string) => string;

const OID = {
  bool: 16,
  int8: 20,
  int2: 21,
  int2vector: 22,
  int4: 23,
  oidvector: 30,
  json: 114,
  float4: 700,
  float8: 701,
  timestamp: 1114,
  timestamptz: 1184,
  numeric: 1700,
  jsonb: 3802,
} as const;

/** Types that `to_jsonb` converts in a special way. A value of any other type becomes a string of its text. */
const BUILT_IN: ReadonlyMap<number, ValueFormat> = new Map<number, ValueFormat>([
  [OID.bool, (text) => (text === 't' ? 'true' : 'false')],
  ...[OID.int2, OID.int4, OID.int8, OID.float4, OID.float8, OID.numeric].map(
    (oid) => [oid, numberJson] as const,
  ),
  [OID.json, (text) => text],
  [OID.jsonb, (text) => text],
  [OID.timestamp, (text) => `"${text.replace(' ', 'T')}"`],
  [OID.timestamptz, timestampJson],
  [OID.int2vector, (text) => `[${text.split(' ').join(',')}]`],
  [OID.oidvector, (text) => (text === '' ? '[]' : `["${text.split(' ').join('","')}"]`)],
]);

/**
 * Converts values of each type to JSON: equal to `to_jsonb` in the same session, except for numbers that JavaScript
 * cannot hold. PostgreSQL converts types with their own cast to JSON, before the record is written (`convert`).
 */
export class ValueFormats {
  readonly #sql: Sql;
  readonly #types = new Map<number, TypeFacts>();
  readonly #formats = new Map<number, ValueFormat>();
  /** JSON of the current rows' values that only PostgreSQL can convert, by type and text. */
  readonly #converted = new Map<number, Map<string, string>>();

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Reads the descriptions of these types, where they are not known yet. */
  async load(oids: readonly number[]): Promise<void> {
    const unknown = oids.filter((oid) => !this.#types.has(oid));
    if (unknown.length === 0) return;
    for (const type of await readTypes(this.#sql, unknown)) this.#types.set(type.oid, type);
  }

  /** Drops everything that was read, because a type may have been altered. */
  forget(): void {
    this.#types.clear();
    this.#formats.clear();
  }

  of(oid: number): ValueFormat {
    let format = this.#formats.get(oid);
    if (format === undefined) {
      format = this.#make(oid);
      this.#formats.set(oid, format);
    }
    return format;
  }

  /** Starts a new set of rows: drops what PostgreSQL converted for the previous ones. */
  beginRows(): void {
    this.#converted.clear();
  }

  /** Has PostgreSQL convert the values of these rows that only it can convert. `limit` bounds the wait for it. */
  async convert(
    relation: WalRelation,
    rows: readonly (RowImage | undefined)[],
    limit?: { within<T>(answer: Promise<T>): Promise<T> },
  ): Promise<void> {
    for (const [index, { typeOid }] of relation.columns.entries()) {
      const remote = this.#remoteParts(typeOid, new Set());
      if (remote.size === 0) continue;
      const texts = new Set<string>();
      for (const row of rows) {
        const text = row?.[index];
        if (typeof text === 'string') texts.add(text);
      }
      const converting = this.#convertAll(typeOid, [...texts]);
      await (limit === undefined ? converting : limit.within(converting));
    }
  }

  #make(oid: number): ValueFormat {
    const builtIn = BUILT_IN.get(oid);
    if (builtIn !== undefined) return builtIn;
    const type = this.#types.get(oid);
    if (type === undefined) return JSON.stringify;
    if (this.#remoteParts(oid, new Set()).size > 0) {
      return (text) => this.#converted.get(oid)?.get(text) ?? JSON.stringify(text);
    }
    if (type.base !== 0) return this.of(type.base);
    if (type.element !== 0) {
      const delimiter = this.#types.get(type.element)?.delimiter ?? ',';
      const element = this.of(type.element);
      return (text) => arrayJson(text, delimiter, element);
    }
    if (type.attributes === null) return JSON.stringify;
    const attributes = type.attributes.map(({ name, type: part }) => ({
      key: `${JSON.stringify(name)}:`,
      format: this.of(part),
    }));
    return (text) => {
      const fields = recordFields(text);
      const members = attributes.map(({ key, format }, n) => {
        const field = fields[n] ?? null;
        return key + (field === null ? 'null' : format(field));
      });
      return `{${members.join(',')}}`;
    };
  }

  /** Returns the types within a type that only PostgreSQL can convert. */
  #remoteParts(oid: number, seen: Set<number>): ReadonlySet<number> {
    const found = new Set<number>();
    const visit = (part: number) => {
      if (seen.has(part)) return;
      seen.add(part);
      const type = this.#types.get(part);
      if (type === undefined || BUILT_IN.has(part)) return;
      if (type.hasJsonCast) found.add(part);
      for (const next of [type.base, type.element, ...(type.attributes ?? []).map(({ type: of }) => of)]) {
        if (next !== 0) visit(next);
      }
    };
    visit(oid);
    return found;
  }

  async #convertAll(oid: number, texts: readonly string[]): Promise<void> {
    const name = this.#types.get(oid)?.name;
    if (name === undefined || texts.length === 0) return;
    let converted = this.#converted.get(oid);
    if (converted === undefined) {
      converted = new Map();
      this.#converted.set(oid, converted);
    }
    for (const [n, json] of (await this.#toJsonb(name, texts)).entries()) {
      const text = texts[n];
      if (text !== undefined && json !== null) converted.set(text, json);
    }
  }

  /**
   * Converts texts with one query. If a value makes it fail, converts each half separately. A value that PostgreSQL
   * cannot convert is null here, and stays a string.
   */
  async #toJsonb(type: string, texts: readonly string[]): Promise<(string | null)[]> {
    try {
      const rows = await this.#sql.query<{ json: string | null }>(
        `SELECT to_jsonb(value::${type})::text AS json FROM unnest($1::text[]) WITH ORDINALITY AS given(value, n) ORDER BY n`,
        [texts],
      );
      return rows.map(({ json }) => json);
    } catch (error) {
      if (!(error instanceof Error) || !('severity' in error)) throw error;
      if (texts.length === 1) return [null];
      const middle = texts.length >> 1;
      return [
        ...(await this.#toJsonb(type, texts.slice(0, middle))),
        ...(await this.#toJsonb(type, texts.slice(middle))),
      ];
    }
  }
}

/** Converts `2025-01-15 10:30:00+00` to `2025-01-15T10:30:00+00:00`; the session's time zone is UTC. */
function timestampJson(text: string): string {
  const iso = text.replace(' ', 'T');
  const zone = iso.indexOf('+');
  return zone === -1 ? `"${iso}"` : `"${iso.slice(0, zone)}+00:00${iso.slice(zone + 3)}"`;
}
