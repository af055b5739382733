import { ANY_CHARACTER, codePointAt, unitsOf } from './code-points.js';
import { type LikeSearch, NOT_FOUND, UNDECIDED } from './like-search.js';

/** Stands for `%` among the code points of a pattern. */
const MANY = -2;

/**
 * A compiled LIKE pattern, by characters, with a backslash as escape. It is split at each `%` into segments: the first must be
 * at the start of the text and the last at its end, and those between are searched one after the other. A match takes at most
 * as many steps as the text has characters, times the words of 32 characters in the longest segment.
 */
export class LikePattern {
  readonly #prefix: readonly number[];
  /** The segments between the first and the last, each with MANY behind it. */
  readonly #between: readonly number[];
  /** Undefined for a pattern without `%`: the prefix is then the whole text. */
  readonly #suffix: readonly number[] | undefined;
  /** The fewest UTF-16 code units of a text that matches. */
  readonly #minLength: number;
  /** Whether it has a `_`, for any one character. */
  readonly hasAnyCharacter: boolean;

  private constructor(codes: readonly number[]) {
    const [first, last] = [codes.indexOf(MANY), codes.lastIndexOf(MANY)];
    this.#prefix = first === -1 ? codes : codes.slice(0, first);
    this.#between = codes.slice(first + 1, last + 1);
    this.#suffix = first === -1 ? undefined : codes.slice(last + 1);
    this.#minLength = codes.reduce((sum, code) => sum + (code === MANY ? 0 : unitsOf(code)), 0);
    this.hasAnyCharacter = codes.includes(ANY_CHARACTER);
  }

  /** Returns undefined for a pattern that ends in the middle of an escape: PostgreSQL refuses most uses of it. */
  static of(pattern: string): LikePattern | undefined {
    const codes: number[] = [];
    for (let at = 0; at < pattern.length; ) {
      const isEscaped = pattern[at] === '\\';
      if (isEscaped) at += 1;
      if (at === pattern.length) return undefined;
      const code = codePointAt(pattern, at);
      const sign = isEscaped ? undefined : pattern[at];
      at += unitsOf(code);
      if (sign !== '%') codes.push(sign === '_' ? ANY_CHARACTER : code);
      else if (codes.at(-1) !== MANY) codes.push(MANY);
    }
    return new LikePattern(codes);
  }

  /** Evaluates `text LIKE pattern`. Returns undefined if that takes more steps than the search has left. */
  matches(text: string, search: LikeSearch): boolean | undefined {
    if (text.length < this.#minLength) return false;
    if (search.steps < this.#prefix.length + (this.#suffix?.length ?? 0)) return undefined;
    const start = this.#endOfPrefix(text);
    search.steps -= this.#prefix.length;
    if (start === NOT_FOUND || this.#suffix === undefined) return start === text.length;
    const end = startOfSuffix(text, start, this.#suffix);
    search.steps -= this.#suffix.length;
    if (end === NOT_FOUND) return false;
    return this.#between.length === 0 || this.#areBetween(text, start, end, search);
  }

  /** Returns whether the segments between the first and the last are in a part of the text, in their order. */
  #areBetween(text: string, start: number, end: number, search: LikeSearch): boolean | undefined {
    let at = start;
    for (let from = 0; from < this.#between.length; ) {
      const to = this.#between.indexOf(MANY, from);
      at = search.find(text, at, end, this.#between, from, to);
      if (at === NOT_FOUND) return false;
      if (at === UNDECIDED) return undefined;
      from = to + 1;
    }
    return true;
  }

  /** Returns the index behind the prefix; NOT_FOUND if the text does not start with it. */
  #endOfPrefix(text: string): number {
    let at = 0;
    for (const expected of this.#prefix) {
      if (at >= text.length) return NOT_FOUND;
      const code = codePointAt(text, at);
      if (expected !== ANY_CHARACTER && expected !== code) return NOT_FOUND;
      at += unitsOf(code);
    }
    return at;
  }
}

/** Returns the index of the suffix; NOT_FOUND if the text from `start` does not end with it. */
function startOfSuffix(text: string, start: number, suffix: readonly number[]): number {
  let at = text.length;
  for (let n = suffix.length - 1; n >= 0; n--) {
    if (at <= start) return NOT_FOUND;
    const isPair = at - 2 >= start && codePointAt(text, at - 2) > 0xffff;
    at -= isPair ? 2 : 1;
    if (suffix[n] !== ANY_CHARACTER && suffix[n] !== codePointAt(text, at)) return NOT_FOUND;
  }
  return at;
}
