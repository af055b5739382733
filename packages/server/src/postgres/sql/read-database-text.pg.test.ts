import { describe, expect, test } from 'vitest';
import { connectedDatabase } from '../../../../../tests/support/connected-database.js';
import { postgresVersions } from '../../../../../tests/support/matrix.js';
import {
  createEncodedDatabase,
  createTestDatabase,
  type TestDatabase,
} from '../../../../../tests/support/postgres-database.js';
import type { DatabaseText } from './database-text.js';
import { DatabaseTextReader } from './read-database-text.js';

async function textOf(creating: Promise<TestDatabase>): Promise<DatabaseText> {
  const test = await creating;
  const database = await connectedDatabase(test.url);
  try {
    const reader = new DatabaseTextReader();
    const text = await reader.read(database);
    expect(await reader.read(database)).toBe(text);
    return text;
  } finally {
    await database.stop();
    await test.drop();
  }
}

const LATIN = ['', 'José', '\u0001\t"\\', '\u0080\u009f'];
const CENTRAL = ['Łukasz', 'Ž'];
const JAPANESE = ['日本', 'カナ'];
const OTHERS = ['😀', '\ufffe'];
const NEVER = ['\0', 'a\0b', '\ud83d', '\ude00x'];

describe.each(postgresVersions('oldest'))('on the %s PostgreSQL', (version) => {
  test.each([
    ['LATIN1', LATIN, [...CENTRAL, ...JAPANESE, ...OTHERS, '€']],
    ['WIN1252', ['', 'José', '€'], [...CENTRAL.slice(0, 1), ...JAPANESE, ...OTHERS]],
    ['LATIN2', ['', ...CENTRAL], [...JAPANESE, ...OTHERS, 'ñ']],
    ['EUC_JP', ['', ...JAPANESE], OTHERS],
    ['SQL_ASCII', [...LATIN, ...CENTRAL, ...JAPANESE, ...OTHERS], []],
  ])('a database in %s holds %j, and not %j', async (encoding, held, others) => {
    const text = await textOf(createEncodedDatabase(encoding, version));
    expect(held.filter((one) => !text.canStore(one))).toEqual([]);
    expect([...others, ...NEVER].filter((one) => text.canStore(one))).toEqual([]);
  });

  test('a database in UTF8 holds everything but NUL and halves of surrogate pairs', async () => {
    const text = await textOf(createTestDatabase(version));
    const held = [...LATIN, ...CENTRAL, ...JAPANESE, ...OTHERS];
    expect(held.filter((one) => !text.canStore(one))).toEqual([]);
    expect(NEVER.filter((one) => text.canStore(one))).toEqual([]);
  });
});
