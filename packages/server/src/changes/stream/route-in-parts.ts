import type { StreamedChange } from '../log/packed-changes.js';
import { retry } from './retry.js';

/** Consecutive changes of a batch; `routed` is undefined where they cannot be routed. */
export interface BatchPart<Routed> {
  readonly changes: readonly StreamedChange[];
  readonly routed: Routed | undefined;
}

/** How many failing parts of a batch are split. More is not the fault of single changes. */
const MAX_SPLITS = 64;
/** A part is tried once: the whole batch has failed several times already. */
const ATTEMPTS_OF_A_PART = 1;

/**
 * Routes a batch. If that fails, finds the changes that are to blame by routing halves, so that one bad change does not
 * take others with it. Returns the parts in order; their changes are those of the batch, except after an abort.
 */
export async function routeInParts<Routed>(
  batch: readonly StreamedChange[],
  route: (changes: readonly StreamedChange[]) => Promise<Routed>,
  signal: AbortSignal,
  onFailure: (error: unknown) => void,
): Promise<BatchPart<Routed>[]> {
  const parts: BatchPart<Routed>[] = [];
  const waiting = [batch];
  let splits = 0;
  for (let changes = waiting.pop(); changes !== undefined && !signal.aborted; changes = waiting.pop()) {
    const attempts = changes === batch ? undefined : ATTEMPTS_OF_A_PART;
    const some = changes;
    const routed = await retry(() => route(some), signal, onFailure, attempts);
    if (routed === undefined && changes.length > 1 && splits < MAX_SPLITS) {
      splits += 1;
      const middle = changes.length >> 1;
      waiting.push(changes.slice(middle), changes.slice(0, middle));
    } else parts.push({ changes, routed });
  }
  return parts;
}

/** Returns the tables of changes, by oid. */
export function tablesOfChanges(changes: readonly StreamedChange[]): number[] {
  const oids = changes.flatMap((change) => (change.kind === 'message' ? [] : [change.relation.oid]));
  return [...new Set(oids)];
}
