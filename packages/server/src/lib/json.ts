import { memberTexts, TooDeep } from './json-members.js';
import type { JsonText } from './json-text.js';

/** Reports invalid or too deeply nested JSON. The message may be sent to clients. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
}

export interface ParsedJson {
  readonly value: unknown;
  /** The members of `value`, if it is an object, as they were written. */
  readonly members: ReadonlyMap<string, JsonText>;
}

/**
 * Parses JSON of at most `maxDepth` levels. Counts the levels before parsing, because code that traverses or
 * serializes the value later recurses. Throws JsonError.
 */
export function parseJson(bytes: Buffer, maxDepth: number): ParsedJson {
  const text = bytes.toString('utf8');
  try {
    const members = memberTexts(text, maxDepth);
    return { value: JSON.parse(text), members };
  } catch (error) {
    const isTooDeep = error instanceof TooDeep;
    throw new JsonError(isTooDeep ? `nested deeper than ${maxDepth} levels` : 'not valid JSON');
  }
}
