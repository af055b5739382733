import type { WalRelation } from '../../postgres/source/change-source.js';
import type { StreamedChange } from '../log/packed-changes.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Recipients } from './recipients.js';
import { TableBatch } from './table-batch.js';
import type { TableLayouts } from './table-layouts.js';

/**
 * Decodes the changes of a batch and groups them by table. A transaction that changes memberships begins a
 * new segment: its membership changes apply to itself and later transactions, not to those before. Dropped
 * tables are left out.
 */
export async function segmentsOf(
  changes: readonly StreamedChange[],
  recipients: Recipients,
  layouts: TableLayouts,
  formats: ValueFormats,
): Promise<TableBatch[][]> {
  const segmentStarts = new Set<bigint>();
  for (const change of changes)
    if (change.kind !== 'message' && recipients.tracksMemberships(change.relation.oid))
      segmentStarts.add(change.transaction.commitLsn);
  const segments: Map<WalRelation, TableBatch | undefined>[] = [new Map()];
  let last: bigint | undefined;
  for (const [batchIndex, change] of changes.entries()) {
    const { commitLsn } = change.transaction;
    if (commitLsn !== last && segmentStarts.has(commitLsn)) segments.push(new Map());
    last = commitLsn;
    if (change.kind === 'message') continue;
    const { relation } = change;
    const tableBatches = segments.at(-1);
    if (tableBatches?.has(relation) === false) {
      const layout = await layouts.of(relation);
      tableBatches.set(relation, layout === undefined ? undefined : new TableBatch(layout));
    }
    tableBatches?.get(relation)?.add(change, batchIndex);
  }
  const decoded = segments.map((tableBatches) =>
    [...tableBatches.values()].filter((tableBatch) => tableBatch !== undefined),
  );
  formats.beginRows();
  for (const { layout, changes: tableChanges } of decoded.flat()) {
    const rows = tableChanges.flatMap((change) => [change.old, change.new]);
    await formats.convert(layout.relation, rows);
  }
  return decoded;
}
