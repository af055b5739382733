/** A step of a LIKE pattern: a character, `_` for any one, or `%` for any number of them. */
type Step = { readonly kind: 'character'; readonly is: string } | { readonly kind: 'one' | 'many' };

const known = new Map<string, readonly Step[] | undefined>();
const MAX_KNOWN = 1_000;

/** Returns whether PostgreSQL accepts the pattern. It refuses one that ends in the middle of an escape. */
export function isPattern(pattern: string): boolean {
  return stepsOf(pattern) !== undefined;
}

/**
 * Evaluates `text LIKE pattern` by characters, with a backslash as escape. The number of steps is at most the product of
 * both lengths.
 */
export function isLike(text: string, pattern: string): boolean {
  const steps = stepsOf(pattern);
  if (steps === undefined) throw new Error('not a LIKE pattern');
  const characters = Array.from(text);
  let at = 0;
  let step = 0;
  // The index of the last `%` in the pattern, and the end of the text that it matches so far.
  let many = -1;
  let reach = 0;
  while (at < characters.length) {
    const next = steps[step];
    if (next?.kind === 'many') {
      many = step++;
      reach = at;
    } else if (next !== undefined && (next.kind === 'one' || ('is' in next && next.is === characters[at]))) {
      step += 1;
      at += 1;
    } else if (many === -1) return false;
    else {
      step = many + 1;
      at = ++reach;
    }
  }
  while (steps[step]?.kind === 'many') step += 1;
  return step === steps.length;
}

function stepsOf(pattern: string): readonly Step[] | undefined {
  if (known.has(pattern)) return known.get(pattern);
  if (known.size >= MAX_KNOWN) known.clear();
  const steps = parse(pattern);
  known.set(pattern, steps);
  return steps;
}

function parse(pattern: string): readonly Step[] | undefined {
  const steps: Step[] = [];
  const characters = Array.from(pattern);
  for (let n = 0; n < characters.length; n++) {
    const character = characters[n] ?? '';
    if (character === '%') steps.push({ kind: 'many' });
    else if (character === '_') steps.push({ kind: 'one' });
    else if (character !== '\\') steps.push({ kind: 'character', is: character });
    else {
      const escaped = characters[++n];
      if (escaped === undefined) return undefined;
      steps.push({ kind: 'character', is: escaped });
    }
  }
  return steps;
}
