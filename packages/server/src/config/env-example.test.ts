import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { expect, test } from 'vitest';
import { loadSettings } from './load-settings.js';
import { SETTING_ROWS } from './settings-table.js';

const TEXT = readFileSync(new URL('../../../../.env.example', import.meta.url), 'utf8');
const LINES = TEXT.split('\n').filter((line) => /^#?[A-Z][A-Z0-9_]*=/.test(line));
const NAMES = LINES.map((line) => line.replace(/^#/, '').split('=')[0] ?? '');
const FILES = SETTING_ROWS.flatMap(({ file }) => (file === undefined ? [] : [file.env]));

test('the example sets nothing: every setting is commented out', () => {
  expect(parseEnv(TEXT)).toEqual({});
});

test('every name in the example is a setting and occurs once', () => {
  const known = new Set([...SETTING_ROWS.map(({ env }) => env), ...FILES]);
  expect(NAMES.filter((name) => !known.has(name))).toEqual([]);
  expect(new Set(NAMES).size).toBe(NAMES.length);
  expect(NAMES).toEqual(
    expect.arrayContaining([
      'DATABASE_URL',
      'REALTIME_JWT_SECRET',
      'REALTIME_ALLOWED_ORIGINS',
      'REALTIME_PORT',
    ]),
  );
});

test.each(LINES)('%s is accepted', (line) => {
  const envFile = parseEnv(line.replace(/^#/, ''));
  if (FILES.some((name) => name in envFile)) return;
  expect(() => loadSettings({ flags: {}, env: {}, envFile })).not.toThrow();
});

test('the example shows defaults, and other values only for settings without one', () => {
  for (const line of LINES) {
    for (const [name, value] of Object.entries(parseEnv(line.replace(/^#/, '')))) {
      const row = SETTING_ROWS.find(({ env }) => env === name);
      if (row?.default) expect([name, value]).toEqual([name, row.default]);
    }
  }
});
