#!/usr/bin/env node
// Fails where a word of the project's former private language stands in code or prose: the field has better ones
// (ARCHITECTURE.md, "Words"). Whole words and parts of camelCase names count.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Each word with what is said instead. */
const INSTEAD = {
  seat: 'recipient group, recipients',
  sight: 'row visibility',
  slice: 'batch',
  judge: 'evaluate, check',
  judgement: 'evaluation',
  mend: 'fix',
  fold: 'evaluate parameters',
  tally: 'counters',
  doubt: 'invalidate',
  distrust: 'invalidate',
  persevere: 'retry',
};

/** Names that are not ours to choose: on the wire, in PostgreSQL's syntax tree, in SQL fixtures. */
const ALLOWED = [/\.slice\(/g, /\bis_slice\b/g, /\bchanges_judged\b/g, /COLLAT(?:E|ION) folded/g];

const FILES = ['*.ts', '*.mjs', '*.cjs', '*.js', '*.md', '*.html', '*.css', '*.sh', '*.json', '.ci/run'];
/** The changelog names what was renamed; this file names the words. */
const SKIPPED = new Set(['CHANGELOG.md', 'package-lock.json', 'scripts/words.mjs']);

const forms = new Map(Object.keys(INSTEAD).flatMap((word) => inflections(word).map((form) => [form, word])));

/** The word as it appears in text: plural, past, participle. */
function inflections(word) {
  const stem = word.endsWith('e') ? word.slice(0, -1) : word;
  const plural = word.endsWith('y') ? `${word.slice(0, -1)}ies` : `${word}s`;
  const past = word.endsWith('y') ? `${word.slice(0, -1)}ied` : `${stem}ed`;
  return [word, plural, past, `${stem}ing`];
}

/** The words of a line, those within camelCase and snake_case names each on its own. */
function wordsOf(line) {
  const text = ALLOWED.reduce((rest, pattern) => rest.replace(pattern, ' '), line);
  return (
    text
      .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
      .replace(/([A-Z]+)([A-Z][a-z])/g, '$1 $2')
      .toLowerCase()
      .match(/[a-z]+/g) ?? []
  );
}

// Without the setting, git refuses a checkout of another account, as in a container that mounts it.
const list = ['-c', 'safe.directory=*', 'ls-files', ...FILES];
const found = [];
for (const file of execFileSync('git', list, { encoding: 'utf8' }).trim().split('\n')) {
  if (SKIPPED.has(file)) continue;
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries())
    for (const form of new Set(wordsOf(line))) {
      const word = forms.get(form);
      if (word !== undefined) found.push(`${file}:${index + 1}  ${form}: say ${INSTEAD[word]}`);
    }
}
if (found.length > 0) {
  process.stderr.write(
    `${found.join('\n')}\n\n${found.length} words that readers from outside do not know.\n`,
  );
  process.exit(1);
}
