import type { WalRelation } from '../../postgres/source/change-source.js';
import type { StreamedChange } from '../log/packed-changes.js';
import type { ValueFormats } from '../values/value-formats.js';
import type { Deadline } from '../visibility/deadline.js';
import type { Recipients } from './recipients.js';
import { TableBatch } from './table-batch.js';
import type { TableLayout } from './table-layout.js';
import type { TableLayouts } from './table-layouts.js';

export interface Decoding {
  readonly layouts: TableLayouts;
  readonly formats: ValueFormats;
  readonly deadline: Deadline | undefined;
}

/**
 * Decodes the changes of a batch and groups them by table. A transaction that changes memberships begins a
 * new segment: its membership changes apply to itself and later transactions, not to those before. Dropped
 * tables are left out, and those that cannot be decoded before the deadline: these are passed to `onUndecided`.
 */
export async function segmentsOf(
  changes: readonly StreamedChange[],
  recipients: Recipients,
  { layouts, formats, deadline }: Decoding,
  onUndecided: (oid: number) => void,
): Promise<TableBatch[][]> {
  const giveUp = (error: unknown, { oid }: WalRelation) => {
    if (deadline?.excuses(error) !== true) throw error;
    onUndecided(oid);
    // Its changes of lists are unknown.
    recipients.invalidateMemberships();
  };
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
      let layout: TableLayout | undefined;
      try {
        layout = await layouts.of(relation, deadline);
      } catch (error) {
        giveUp(error, relation);
      }
      tableBatches.set(relation, layout === undefined ? undefined : new TableBatch(layout));
    }
    tableBatches?.get(relation)?.add(change, batchIndex);
  }
  const decoded = segments.map((tableBatches) =>
    [...tableBatches.values()].filter((tableBatch) => tableBatch !== undefined),
  );
  formats.beginRows();
  const unconverted = new Set<TableBatch>();
  for (const tableBatch of decoded.flat()) {
    const { relation } = tableBatch.layout;
    const rows = tableBatch.changes.flatMap((change) => [change.old, change.new]);
    try {
      await formats.convert(relation, rows, deadline);
    } catch (error) {
      giveUp(error, relation);
      unconverted.add(tableBatch);
    }
  }
  if (unconverted.size === 0) return decoded;
  return decoded.map((segment) => segment.filter((tableBatch) => !unconverted.has(tableBatch)));
}
