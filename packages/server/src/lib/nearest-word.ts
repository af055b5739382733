/** A candidate word and its edit distance from the word searched for. */
export interface Near {
  readonly word: string;
  readonly distance: number;
}

/** A candidate further away than this share of the word's letters was hardly meant. */
const CLOSE_SHARE = 0.4;
/** Distance of a candidate that continues the word after `_` or `-`: an unfinished name is close to it. */
const PREFIX_DISTANCE = 2;

/** Returns the candidate nearest to `word`, the first of several; undefined only without candidates. */
export function nearest(word: string, candidates: Iterable<string>): Near | undefined {
  let best: Near | undefined;
  for (const candidate of candidates) {
    const continues = candidate.startsWith(`${word}_`) || candidate.startsWith(`${word}-`);
    const edits = editDistance(word, candidate);
    const distance = continues ? Math.min(edits, PREFIX_DISTANCE) : edits;
    if (best === undefined || distance < best.distance) best = { word: candidate, distance };
  }
  return best;
}

/** Whether the word was probably meant as the one near it. */
export function isClose(word: string, near: Near): boolean {
  return near.distance <= Math.max(2, Math.floor(word.length * CLOSE_SHARE)) && near.distance < word.length;
}

/** The candidate that `word` was probably meant as; undefined when none is close. */
export function closeMatch(word: string, candidates: Iterable<string>): string | undefined {
  const near = nearest(word, candidates);
  return near !== undefined && isClose(word, near) ? near.word : undefined;
}

/**
 * Counts the letters to insert, delete, replace or swap with their neighbour to turn `a` into `b`
 * (the optimal string alignment distance).
 */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let edits = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, replaced);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) edits = Math.min(edits, (beforeLast[j - 2] ?? 0) + 1);
      row.push(edits);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
