import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { StreamedChange } from '../log/packed-changes.js';
import type { RoutedBatch } from '../routing/batch-router.js';
import type { Undecided } from '../visibility/authorizer.js';
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

/** Returns the members for which some part is not decided. */
export function undecidedMembers(
  parts: readonly BatchPart<Pick<RoutedBatch, 'undecided'>>[],
): ReadonlyMap<Subscriber, { readonly channel: Channel; readonly why: Undecided }> {
  const undecided = new Map<Subscriber, { readonly channel: Channel; readonly why: Undecided }>();
  for (const { routed } of parts)
    for (const [{ channel, members }, why] of routed?.undecided ?? [])
      for (const member of members)
        if (undecided.get(member)?.why !== 'slow') undecided.set(member, { channel, why });
  return undecided;
}

/** Returns the tables of changes, by oid. */
export function tablesOfChanges(changes: readonly StreamedChange[]): number[] {
  const oids = changes.flatMap((change) => (change.kind === 'message' ? [] : [change.relation.oid]));
  return [...new Set(oids)];
}
