import type { LoadedSettings } from './load-settings.js';
import { SETTING_GROUPS } from './setting.js';
import { SETTING_ROWS, type SettingRow } from './settings-table.js';

const HELP_WIDTH = 100;
const HELP_INDENT = 42;
/** Longer values stand out of their column rather than push every origin to the right. */
const MAX_VALUE_WIDTH = 48;

/** The flags that take a value, without their dashes. */
export const settingFlags: readonly string[] = SETTING_ROWS.flatMap(({ flag, file }) =>
  file === undefined ? [flag] : [flag, file.flag],
);

/** The effective settings as lines of variable, value and origin, aligned. Secrets are masked. */
export function describeSettings({ settings, origins }: LoadedSettings): string {
  const lines = SETTING_ROWS.map((row) => ({
    variable: row.env,
    // A default is shown as the documentation writes it: 24h, not 1d.
    value: (origins[row.key] === 'default' && row.default) || shown(row, settings[row.key]),
    origin: origins[row.key],
  }));
  const variableWidth = Math.max(...lines.map(({ variable }) => variable.length));
  const valueWidth = Math.min(MAX_VALUE_WIDTH, Math.max(...lines.map(({ value }) => value.length)));
  return lines
    .map(
      ({ variable, value, origin }) =>
        `${variable.padEnd(variableWidth)}  ${value.padEnd(valueWidth)}  ${origin}`,
    )
    .join('\n');
}

/** The flags by group, each with what it takes, the first sentence of its meaning and its default, in 100 columns. */
export function settingsHelp(): string {
  return SETTING_GROUPS.map((group) => [`${group}:`, ...rowsOf(group).flatMap(helpLines)].join('\n')).join(
    '\n\n',
  );
}

/** The reference page of all settings, in Markdown. */
export function settingsReference(): string {
  return `${[INTRODUCTION, ...SETTING_GROUPS.map(referenceGroup)].join('\n\n')}\n`;
}

const INTRODUCTION = `# Settings

Every setting is a variable and a flag of \`npx goforward-realtime start\`. A flag wins over the environment, the
environment over the file \`.env\` in the working directory, and that over the default. An empty variable
counts as not set. \`npx goforward-realtime config\` prints the effective values and where each came from, with
secrets masked.

A variable that begins with \`REALTIME_\` and is not listed here, an unknown flag, or a value that does not
parse or is out of range stops the start with exit code 2 and one line that names it.

- **Secrets** may come from files: \`REALTIME_JWT_SECRET_FILE\` is the path of a file that holds what
  \`REALTIME_JWT_SECRET\` would, as text in UTF-8, whose last line break does not count. Setting both is an error.
- **Durations** are \`500ms\`, \`30s\`, \`5m\`, \`24h\`, \`7d\`, or several units from large to small: \`1h30m\`.
- **Sizes** are \`64KB\`, \`1MB\`, \`2GB\`, or a number of bytes. A KB is 1024 bytes.
- **Rates** are \`50/s\` or \`50/s, burst 200\`: so many a second in the long run, and the burst at once. Without a
  burst it is one second's worth.
- **Lists** are separated by commas.
- **Switches** are \`true\` or \`false\`; \`1\`, \`yes\`, \`on\` and \`0\`, \`no\`, \`off\` will do.`;

function referenceGroup(group: SettingRow['group']): string {
  const rows = rowsOf(group).flatMap((row) => {
    const fallback = row.default === undefined ? 'none' : row.default === '' ? 'empty' : `\`${row.default}\``;
    const { env, flag, file } = row;
    const own = `| \`${env}\` | \`--${flag}\` | ${fallback} | ${cell(`${row.doc} Takes ${row.type.expects}.`)} |`;
    if (file === undefined) return [own];
    return [
      own,
      `| \`${file.env}\` | \`--${file.flag}\` | none | The path of a file that holds \`${env}\`. |`,
    ];
  });
  return [`## ${group}`, '', '| Variable | Flag | Default | Meaning |', '|---|---|---|---|', ...rows].join(
    '\n',
  );
}

function helpLines(row: SettingRow): string[] {
  // The default is one word to the wrapping, so that it can be searched for.
  const fallback = row.default ? [`(default ${row.default})`] : [];
  const { flag, file, type } = row;
  const own = helpOf(`--${flag} <${type.placeholder}>`, [...firstSentence(row.doc).split(' '), ...fallback]);
  if (file === undefined) return own;
  return [...own, ...helpOf(`--${file.flag} <path>`, `A file that holds --${flag}.`.split(' '))];
}

function helpOf(synopsis: string, words: readonly string[]): string[] {
  const flag = `  ${synopsis}`;
  const lines = wrapped(words, HELP_WIDTH - HELP_INDENT);
  const indent = ' '.repeat(HELP_INDENT);
  if (flag.length >= HELP_INDENT) return [flag, ...lines.map((line) => indent + line)];
  return lines.map((line, index) => (index === 0 ? flag.padEnd(HELP_INDENT) : indent) + line);
}

function rowsOf(group: SettingRow['group']): SettingRow[] {
  return SETTING_ROWS.filter((row) => row.group === group);
}

function shown(row: SettingRow, value: unknown): string {
  return value === undefined ? '(not set)' : row.type.show(value) || '(empty)';
}

function firstSentence(doc: string): string {
  return /^.+?[.](?= |$)/s.exec(doc)?.[0] ?? doc;
}

function cell(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('|', '\\|').replaceAll('*', '\\*').replaceAll('<', '&lt;');
}

function wrapped(words: readonly string[], width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of words) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
