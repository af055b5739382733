import type { ClientLog, TrueChange } from './checker.js';

/** Larger than any real position. */
const UNMATCHED = 1n << 62n;

/**
 * Returns the committed changes with the positions that the trigger source gave them. The trigger source
 * numbers transactions differently from the WAL, and concurrent transactions may swap their order.
 * Transactions of one writer keep theirs: the first that any client received of a writer is the writer's
 * first, with the same changes, and so on. A transaction without a match gets an unreachable position, so
 * that the checker reports it as missing.
 */
export function atTriggerPositions(truth: readonly TrueChange[], logs: readonly ClientLog[]): TrueChange[] {
  const seen = new Map<bigint, Map<number, string>>();
  for (const { entries } of logs) {
    for (const entry of entries) {
      if (entry.kind !== 'change') continue;
      const [, high = '', low = '', index = ''] =
        /:([0-9A-F]+)\/([0-9A-F]+)\/(\d+)$/.exec(entry.cursor) ?? [];
      const position = (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
      const changes = seen.get(position) ?? new Map<number, string>();
      seen.set(position, changes.set(Number(index), entry.what));
    }
  }
  const positionsByWriter = new Map<string, bigint[]>();
  for (const position of [...seen.keys()].sort((a, b) => (a < b ? -1 : 1))) {
    const writer = writerOf(seen.get(position)?.values().next().value ?? '');
    positionsByWriter.set(writer, [...(positionsByWriter.get(writer) ?? []), position]);
  }
  let unmatched = UNMATCHED;
  const positions = new Map<bigint, bigint>();
  for (const changes of transactionsOf(truth)) {
    const [first] = changes;
    if (first === undefined) continue;
    const position = positionsByWriter.get(writerOf(first.what))?.shift();
    const received = position === undefined ? undefined : seen.get(position);
    const isSame =
      changes.every(({ what, index }) => received?.get(index) === what) && received?.size === changes.length;
    positions.set(first.lsn, isSame && position !== undefined ? position : unmatched++);
  }
  return truth
    .map((change) => ({ ...change, lsn: positions.get(change.lsn) ?? UNMATCHED }))
    .sort((a, b) => (a.lsn === b.lsn ? a.index - b.index : a.lsn < b.lsn ? -1 : 1));
}

function transactionsOf(truth: readonly TrueChange[]): TrueChange[][] {
  const transactions = new Map<bigint, TrueChange[]>();
  for (const change of truth) transactions.set(change.lsn, [...(transactions.get(change.lsn) ?? []), change]);
  return [...transactions.values()];
}

/** Returns the writer: 3 for `INSERT 3/17`. */
function writerOf(what: string): string {
  return what.slice(what.indexOf(' ') + 1, what.indexOf('/'));
}
