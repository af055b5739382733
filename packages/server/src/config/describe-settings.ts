import type { LoadedSettings } from './load-settings.js';
import { SETTING_GROUPS } from './setting.js';
import { SETTING_ROWS, type SettingRow } from './settings-table.js';

const HELP_WIDTH = 100;
const HELP_INDENT = 42;
/** Longer values exceed their column, so that one long value does not move every origin to the right. */
const MAX_VALUE_WIDTH = 48;

/** All flags that take a value, without dashes. */
export const settingFlags: readonly string[] = SETTING_ROWS.flatMap(({ flag, file }) =>
  file === undefined ? [flag] : [flag, file.flag],
);

/** Returns the effective settings as aligned lines of variable, value and origin. Secrets are masked. */
export function describeSettings({ settings, origins }: LoadedSettings): string {
  const lines = SETTING_ROWS.map((row) => ({
    variable: row.env,
    // Shows a default as the documentation writes it: 24h, not 1d.
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

/** Returns the flags by group, with placeholder, first sentence and default, in 100 columns. */
export function settingsHelp(): string {
  return SETTING_GROUPS.map((group) => [`${group}:`, ...rowsOf(group).flatMap(helpLines)].join('\n')).join(
    '\n\n',
  );
}

/** Returns the reference page of all settings, in Markdown. */
export function settingsReference(): string {
  return `${[INTRODUCTION, ...SETTING_GROUPS.map(referenceGroup)].join('\n\n')}\n`;
}

const INTRODUCTION = `# Settings

Every setting is a variable and a flag of \`npx goforward-realtime start\`. A flag wins over the environment, the
environment over the file \`.env\` in the working directory, and that over the default. An empty variable
counts as not set. \`npx goforward-realtime config\` prints the effective values and the origin of each, with
secrets masked.

The server does not start with an unknown \`REALTIME_\` variable, an unknown flag, or an invalid value: it prints one
line that names the setting, and exits with code 2.

- **Secrets** can be read from files: \`REALTIME_JWT_SECRET_FILE\` is the path of a UTF-8 file with the value of
  \`REALTIME_JWT_SECRET\`. Its last line break is ignored. Setting both is an error.
- **Durations** are \`500ms\`, \`30s\`, \`5m\`, \`24h\`, \`7d\`, or several units from large to small: \`1h30m\`.
- **Sizes** are \`64KB\`, \`1MB\`, \`2GB\`, or a number of bytes. A KB is 1024 bytes.
- **Rates** are \`50/s\` or \`50/s, burst 200\`: sustained rate per second, and burst size. The default burst is the rate of
  one second.
- **Lists** are separated by commas.
- **Switches** are \`true\` or \`false\`; \`1\`, \`yes\`, \`on\` and \`0\`, \`no\`, \`off\` also work.`;

function referenceGroup(group: SettingRow['group']): string {
  const rows = rowsOf(group).flatMap((row) => {
    const fallback = row.default === undefined ? 'none' : row.default === '' ? 'empty' : `\`${row.default}\``;
    const { env, flag, file } = row;
    const own = `| \`${env}\` | \`--${flag}\` | ${fallback} | ${cell(`${row.doc} Takes ${row.type.expects}.`)} |`;
    if (file === undefined) return [own];
    return [
      own,
      `| \`${file.env}\` | \`--${file.flag}\` | none | Path of a file with the value of \`${env}\`. |`,
    ];
  });
  return [`## ${group}`, '', '| Variable | Flag | Default | Meaning |', '|---|---|---|---|', ...rows].join(
    '\n',
  );
}

function helpLines(row: SettingRow): string[] {
  // Not split into words: wrapping must not break the default, so that it can be searched for.
  const fallback = row.default ? [`(default ${row.default})`] : [];
  const { flag, file, type } = row;
  const own = helpOf(`--${flag} <${type.placeholder}>`, [...firstSentence(row.doc).split(' '), ...fallback]);
  if (file === undefined) return own;
  return [
    ...own,
    ...helpOf(`--${file.flag} <path>`, `Path of a file with the value of --${flag}.`.split(' ')),
  ];
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
