import { TOKEN_CLAIMS } from '../../config/claim-setting-type.js';
import { asciiJson } from '../../lib/ascii-json.js';
import type { DatabaseText } from '../../postgres/sql/database-text.js';

export type Claims = Readonly<Record<string, unknown>>;

/** The claims of a token as policies see them. */
export interface EvaluationClaims {
  /** Equal for equal claims, in whatever order the token has them. */
  readonly json: string;
  /** The names of claims with a value or key that the database cannot hold. */
  readonly replaced: readonly string[];
}

/** Returns the claims that policies see: what the database cannot hold is null, or left out if it is a key. */
export function evaluationClaims(claims: Claims, text: DatabaseText): EvaluationClaims {
  const replaced = new Set<string>();
  const kept = Object.entries(claims).filter(([name]) => !TOKEN_CLAIMS.has(name));
  const json = objectJson(kept, text, (name, value) => storableJson(value, text, () => replaced.add(name)));
  for (const [name] of kept) if (!text.canStore(name)) replaced.add(name);
  return { json, replaced: [...replaced] };
}

/** Returns a value as JSON, with null for every text in it that the database cannot hold. */
export function storableJson(value: unknown, text: DatabaseText, onReplaced: () => void): string {
  if (typeof value === 'string') {
    if (text.canStore(value)) return textJson(value, text);
    onReplaced();
    return 'null';
  }
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item) => storableJson(item, text, onReplaced)).join(',')}]`;
  const entries = Object.entries(value);
  if (entries.some(([key]) => !text.canStore(key))) onReplaced();
  return objectJson(entries, text, (_, inner) => storableJson(inner, text, onReplaced));
}

/** Writes an object with its keys in order, without those that the database cannot hold. */
function objectJson(
  entries: readonly (readonly [key: string, value: unknown])[],
  text: DatabaseText,
  jsonOf: (key: string, value: unknown) => string,
): string {
  const fields = entries
    .filter(([key]) => text.canStore(key))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${textJson(key, text)}:${jsonOf(key, value)}`);
  return `{${fields.join(',')}}`;
}

/** Only ASCII, where possible: a character that slips through fails one value and not the whole statement. */
function textJson(value: string, { takesEscapes }: DatabaseText): string {
  return takesEscapes ? asciiJson(value) : JSON.stringify(value);
}
