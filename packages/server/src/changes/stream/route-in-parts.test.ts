import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StreamedChange } from '../log/packed-changes.js';
import { routeInParts, tablesOfChanges } from './route-in-parts.js';

const transaction = { commitLsn: 1n, commitTime: 0n, xid: 1 };
const changesOf = (count: number): StreamedChange[] =>
  Array.from({ length: count }, (_, index) => ({
    kind: 'truncate',
    transaction,
    index,
    relation: { oid: index % 3, schema: 'public', name: 't', identity: 'f', columns: [] },
  }));

/** Routes changes of which these fail, and returns the indexes of each part, whether it was routed, and the tries. */
async function route(count: number, bad: ReadonlySet<number>) {
  let tries = 0;
  const parts = await routeInParts(
    changesOf(count),
    async (changes) => {
      tries += 1;
      if (changes.some(({ index }) => bad.has(index))) throw new RangeError('Invalid string length');
      return 'routed';
    },
    new AbortController().signal,
    () => undefined,
  );
  return {
    tries,
    parts: parts.map(({ changes, routed }) => ({ indexes: changes.map(({ index }) => index), routed })),
  };
}

describe('a batch', () => {
  it('is routed at once if nothing fails', async () => {
    const { tries, parts } = await route(512, new Set());
    expect([tries, parts.length]).toEqual([1, 1]);
  });

  it('loses only the changes that fail, and keeps its order', async () => {
    const batch = fc
      .integer({ min: 1, max: 64 })
      .chain((count) =>
        fc.tuple(fc.constant(count), fc.uniqueArray(fc.nat({ max: count - 1 }), { maxLength: 4 })),
      );
    await fc.assert(
      fc.asyncProperty(batch, async ([count, bad]) => {
        const { parts } = await route(count, new Set(bad));
        expect(parts.flatMap(({ indexes }) => indexes)).toEqual(changesOf(count).map(({ index }) => index));
        const lost = parts.flatMap(({ indexes, routed }) => (routed === undefined ? indexes : []));
        expect(lost).toEqual(bad.toSorted((a, b) => a - b));
      }),
      { numRuns: 20 },
    );
  });

  it('in which everything fails is given up after a bounded number of tries', async () => {
    const { tries, parts } = await route(512, new Set(changesOf(512).map(({ index }) => index)));
    expect(tries).toBeLessThan(140);
    expect(parts.flatMap(({ indexes }) => indexes)).toHaveLength(512);
    expect(parts.every(({ routed }) => routed === undefined)).toBe(true);
  });

  it('names the tables of its changes', () => {
    expect(tablesOfChanges(changesOf(9))).toEqual([0, 1, 2]);
  });
});
