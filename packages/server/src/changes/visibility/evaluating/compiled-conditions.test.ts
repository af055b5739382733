import { expect, it } from 'vitest';
import { CompiledConditions } from './compiled-conditions.js';

/** Asks for each of these conditions in turn; returns which of them were compiled. */
async function compiledOf(conditions: CompiledConditions, asked: readonly string[]): Promise<string[]> {
  const compiled: string[] = [];
  for (const sql of asked)
    await conditions.of(sql, async () => {
      compiled.push(sql);
      return { reason: `it is ${sql}` };
    });
  return compiled;
}

it('compiled conditions are kept up to a number of characters, the newest ones', async () => {
  const conditions = new CompiledConditions(6);
  expect(await compiledOf(conditions, ['aa', 'bb', 'cc', 'aa'])).toEqual(['aa', 'bb', 'cc']);
  expect(await compiledOf(conditions, ['dd', 'cc', 'bb', 'aa'])).toEqual(['dd', 'aa']);
  const long = async () => ({ reason: 'it is long' });
  expect(await conditions.of('longer than all', long)).toEqual({ reason: 'it is long' });
  expect(await compiledOf(conditions, ['aa'])).toEqual(['aa']);
});

it('a condition that could not be compiled is compiled again', async () => {
  const conditions = new CompiledConditions(6);
  const failing = conditions.of('aa', async () => Promise.reject(new Error('no connection')));
  await expect(failing).rejects.toThrow('no connection');
  expect(await compiledOf(conditions, ['aa', 'aa'])).toEqual(['aa']);
});
