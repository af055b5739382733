import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { WalRelation } from '../../postgres/source/change-source.js';
import { PackedChanges } from './packed-changes.js';

const relations = [1, 2, 3].map(
  (oid): WalRelation => ({ oid, schema: 'public', name: `t${oid}`, identity: 'f', columns: [] }),
);

const change = fc.record({
  kind: fc.constantFrom('insert', 'delete', 'truncate', 'message'),
  relation: fc.constantFrom(...relations),
  bytes: fc.uint8Array({ maxLength: 20 }),
  isNewTransaction: fc.boolean(),
});

it('appending all changes of another gives what adding them one by one gives', () => {
  fc.assert(
    fc.property(fc.array(fc.array(change, { maxLength: 8 }), { maxLength: 4 }), (batches) => {
      const joined = new PackedChanges();
      const single = new PackedChanges();
      let transaction = { commitLsn: 1n, commitTime: 5n, xid: 7 };
      let index = 0;
      for (const batch of batches) {
        const packed = new PackedChanges();
        for (const { kind, relation, bytes, isNewTransaction } of batch) {
          if (isNewTransaction) {
            transaction = { ...transaction, commitLsn: transaction.commitLsn + 1n };
            index = 0;
          }
          const table = kind === 'message' ? undefined : relation;
          const message = kind === 'truncate' ? undefined : Buffer.from(bytes);
          for (const each of [packed, single]) each.add(kind, table, transaction, index, message);
          index += 1;
        }
        joined.addAll(packed);
      }
      const contentOf = (changes: PackedChanges) =>
        changes.read().map((each) => ({
          ...each,
          ...('bytes' in each
            ? { bytes: each.bytes.toString('hex', each.start, each.end), start: 0, end: 0 }
            : {}),
        }));
      expect(contentOf(joined)).toEqual(contentOf(single));
      expect([joined.count, joined.lastByTable()]).toEqual([single.count, single.lastByTable()]);
      if (single.count > 0) expect([joined.first, joined.last]).toEqual([single.first, single.last]);
    }),
  );
});
