import { ANY_CHARACTER, codePointAt, unitsOf } from './code-points.js';

/** The bits of a word, each of which stands for a character of a segment. */
const WORD = 32;
const ASCII = 128;

/** What `find` returns instead of an index. */
export const NOT_FOUND = -1;
export const UNDECIDED = -2;

/**
 * Searches texts for segments of LIKE patterns, within a budget of steps. A search takes at most a step for each character of
 * the text and each 32 of the segment.
 *
 * Shift-and (Bitap): a bit for each character of a segment says whether the segment, up to there, matches the text that ends
 * here; a step does this for 32 characters. Long segments without `_` are searched by Knuth, Morris and Pratt in two steps
 * for each character of the text, whatever their length.
 */
export class LikeSearch {
  /** How many steps may still be taken. */
  steps: number;
  readonly #bits: Int32Array;

  /** `bits`: shared with other searches, since it costs more to make them than to search a short text. */
  constructor(steps: number, bits = emptyBits()) {
    this.steps = steps;
    this.#bits = bits;
  }

  /**
   * Finds the first match of `segment[from..to]` in `text[start..end]`. Returns the index behind it, NOT_FOUND, or UNDECIDED
   * if the steps do not suffice.
   */
  find(
    text: string,
    start: number,
    end: number,
    segment: readonly number[],
    from: number,
    to: number,
  ): number {
    if (to - from > end - start) return NOT_FOUND;
    if (to - from <= WORD) return this.#findShort(text, start, end, segment, from, to);
    const long = segment.slice(from, to);
    return long.includes(ANY_CHARACTER)
      ? this.#findLong(text, start, end, long)
      : this.#findLiteral(text, start, end, long.map((code) => String.fromCodePoint(code)).join(''));
  }

  #findLiteral(text: string, start: number, end: number, literal: string): number {
    const limit = Math.min(end, start + Math.floor(this.steps / 2));
    if (limit < end && limit - start < literal.length) return UNDECIDED;
    const shorter = shorterMatches(literal);
    let matched = 0;
    let at = start;
    while (at < limit && matched < literal.length) {
      const unit = text.charCodeAt(at);
      while (matched > 0 && literal.charCodeAt(matched) !== unit) matched = shorter[matched - 1] ?? 0;
      if (literal.charCodeAt(matched) === unit) matched += 1;
      at += 1;
    }
    this.steps -= 2 * (at - start);
    if (matched === literal.length) return at;
    return at < end ? UNDECIDED : NOT_FOUND;
  }

  #findShort(
    text: string,
    start: number,
    end: number,
    segment: readonly number[],
    from: number,
    to: number,
  ): number {
    const bits = this.#bits;
    let others: Map<number, number> | undefined;
    let any = 0;
    for (let n = from; n < to; n++) {
      const code = segment[n] ?? 0;
      const bit = 1 << (n - from);
      if (code === ANY_CHARACTER) any |= bit;
      else if (code < ASCII) bits[code] = (bits[code] ?? 0) | bit;
      else {
        others ??= new Map();
        others.set(code, (others.get(code) ?? 0) | bit);
      }
    }
    const last = 1 << (to - from - 1);
    const limit = Math.min(end, start + this.steps);
    let state = 0;
    let at = start;
    while (at < limit && (state & last) === 0) {
      const code = codePointAt(text, at);
      at += unitsOf(code);
      const found = code < ASCII ? bits[code] : others?.get(code);
      state = ((state << 1) | 1) & ((found ?? 0) | any);
    }
    for (let n = from; n < to; n++) {
      const code = segment[n] ?? 0;
      if (code >= 0 && code < ASCII) bits[code] = 0;
    }
    this.steps -= at - start;
    if ((state & last) !== 0) return at;
    return at < end ? UNDECIDED : NOT_FOUND;
  }

  /** As `#findShort`, for a segment of several words. */
  #findLong(text: string, start: number, end: number, segment: readonly number[]): number {
    const words = Math.ceil(segment.length / WORD);
    const limit = Math.min(end, start + Math.floor(this.steps / words));
    if (limit < end && limit - start < segment.length) return UNDECIDED;
    const { rows, masks } = masksOf(segment, words);
    const states = new Int32Array(words);
    const last = 1 << ((segment.length - 1) % WORD);
    let state = 0;
    let at = start;
    while (at < limit && (state & last) === 0) {
      const code = codePointAt(text, at);
      at += unitsOf(code);
      const row = rows.get(code) ?? 0;
      // The highest bit of a word moves to the lowest of the next; a match may begin at each character.
      let carry = 1;
      for (let n = 0; n < words; n++) {
        const before = states[n] ?? 0;
        state = ((before << 1) | carry) & (masks[row + n] ?? 0);
        states[n] = state;
        carry = before >>> (WORD - 1);
      }
    }
    this.steps -= (at - start) * words;
    if ((state & last) !== 0) return at;
    return at < end ? UNDECIDED : NOT_FOUND;
  }
}

/** Makes room for the bits of a segment at which each ASCII character stands. All are 0 between two searches. */
export function emptyBits(): Int32Array {
  return new Int32Array(ASCII);
}

/** Returns for each beginning of the text the length of the longest shorter beginning that it ends with. */
function shorterMatches(text: string): Int32Array {
  const lengths = new Int32Array(text.length);
  let matched = 0;
  for (let at = 1; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    while (matched > 0 && text.charCodeAt(matched) !== unit) matched = lengths[matched - 1] ?? 0;
    if (text.charCodeAt(matched) === unit) matched += 1;
    lengths[at] = matched;
  }
  return lengths;
}

/**
 * Returns the bits at which characters stand in a segment, as rows of words: where the row of a character begins; the row at
 * 0 is that of all others.
 */
function masksOf(
  segment: readonly number[],
  words: number,
): { rows: Map<number, number>; masks: Int32Array } {
  const rows = new Map<number, number>();
  for (const code of segment)
    if (code !== ANY_CHARACTER && !rows.has(code)) rows.set(code, (rows.size + 1) * words);
  const masks = new Int32Array((rows.size + 1) * words);
  for (const [n, code] of segment.entries()) {
    const row = rows.get(code) ?? 0;
    const index = Math.floor(n / WORD);
    masks[row + index] = (masks[row + index] ?? 0) | (1 << (n % WORD));
  }
  for (const row of rows.values())
    for (let n = 0; n < words; n++) masks[row + n] = (masks[row + n] ?? 0) | (masks[n] ?? 0);
  return { rows, masks };
}
