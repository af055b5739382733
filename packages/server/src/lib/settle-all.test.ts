import { expect, it } from 'vitest';
import { settleAll } from './settle-all.js';

it('returns all results in order', async () => {
  expect(await settleAll([])).toEqual([]);
  expect(await settleAll([Promise.resolve(1)])).toEqual([1]);
  expect(await settleAll([Promise.resolve(1), Promise.resolve(2)])).toEqual([1, 2]);
});

it('throws the first error, once all have ended', async () => {
  let hasEnded = false;
  const late = new Promise((resolve) => setImmediate(resolve)).then(() => {
    hasEnded = true;
    throw new Error('second');
  });
  await expect(settleAll([Promise.reject(new Error('first')), late])).rejects.toThrow('first');
  expect(hasEnded).toBe(true);
});
