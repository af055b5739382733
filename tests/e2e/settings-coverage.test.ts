import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { SETTING_ROWS } from '../../packages/server/src/config/settings-table.js';

const FOLDER = new URL('./', import.meta.url);
const TESTS = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.e2e.test.ts'))
  .map((name) => readFileSync(new URL(name, FOLDER), 'utf8'))
  .join('\n');

test.each(SETTING_ROWS.map(({ env }) => env))('a test against the whole server uses %s', (variable) => {
  expect(TESTS).toMatch(new RegExp(`\\b${variable}\\b`));
});
