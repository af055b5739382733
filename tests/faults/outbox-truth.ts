import type { ClientLog, TrueChange } from './checker.js';

/** No position comes so far. */
const NOWHERE = 1n << 62n;

/**
 * What was committed, at the places that triggers gave it: they count otherwise than the log does, and transactions that
 * run at the same time may change places. Those of one writer may not: the first that anybody saw of a writer is its
 * first, and so on, with the same changes. What does not fit is nowhere, and the checker finds it missing.
 */
export function asTriggersTell(truth: readonly TrueChange[], logs: readonly ClientLog[]): TrueChange[] {
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
  const waiting = new Map<string, bigint[]>();
  for (const position of [...seen.keys()].sort((a, b) => (a < b ? -1 : 1))) {
    const writer = writerOf(seen.get(position)?.values().next().value ?? '');
    waiting.set(writer, [...(waiting.get(writer) ?? []), position]);
  }
  let nowhere = NOWHERE;
  const places = new Map<bigint, bigint>();
  for (const changes of transactionsOf(truth)) {
    const [first] = changes;
    if (first === undefined) continue;
    const position = waiting.get(writerOf(first.what))?.shift();
    const told = position === undefined ? undefined : seen.get(position);
    const isSame =
      changes.every(({ what, index }) => told?.get(index) === what) && told?.size === changes.length;
    places.set(first.lsn, isSame && position !== undefined ? position : nowhere++);
  }
  return truth
    .map((change) => ({ ...change, lsn: places.get(change.lsn) ?? NOWHERE }))
    .sort((a, b) => (a.lsn === b.lsn ? a.index - b.index : a.lsn < b.lsn ? -1 : 1));
}

function transactionsOf(truth: readonly TrueChange[]): TrueChange[][] {
  const transactions = new Map<bigint, TrueChange[]>();
  for (const change of truth) transactions.set(change.lsn, [...(transactions.get(change.lsn) ?? []), change]);
  return [...transactions.values()];
}

/** Of `INSERT 3/17`: 3. */
function writerOf(what: string): string {
  return what.slice(what.indexOf(' ') + 1, what.indexOf('/'));
}
