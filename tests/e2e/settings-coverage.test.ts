import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { SETTING_ROWS } from '../../packages/server/src/config/settings-table.js';

const TESTS = ['./', '../faults/']
  .flatMap((folder) => {
    const url = new URL(folder, import.meta.url);
    const names = readdirSync(url).filter((name) => /\.e2e\.test\.ts$|^scenarios\.ts$/.test(name));
    return names.map((name) => readFileSync(new URL(name, url), 'utf8'));
  })
  .join('\n');

test.each(SETTING_ROWS.map(({ env }) => env))('a test against the whole server uses %s', (variable) => {
  expect(TESTS).toMatch(new RegExp(`\\b${variable}\\b`));
});
