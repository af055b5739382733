import type { ChangeOutcomes, EventCounts, Outcome } from '../subscriptions/change-counts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { type FilterMatches, isSubscribedTo } from './filter-matches.js';
import type { DeliveredChanges } from './message-list-builder.js';
import { type DecodedChange, eventOf, type TableBatch } from './table-batch.js';
import type { Entry, TableSubscriptions } from './table-subscriptions.js';

/** Why nobody at a place gets a change that is wanted there. */
export type UndeliveredReason = Extract<Outcome, 'policy' | 'privilege' | 'unheard'>;

/** The changes that one subscription wants. */
interface MatchedChanges {
  /** How many, where it wants all. */
  all: number;
  /** Which, where it has a condition. */
  readonly matching: Set<DecodedChange>;
  readonly failed: Set<DecodedChange>;
  undeliveredReason: UndeliveredReason;
}

/** Gathers what becomes of the changes of a slice, for each subscription that wants them. */
export class BatchOutcomes {
  readonly #seen = new Map<number, EventCounts>();
  readonly #matched = new Map<Subscription, MatchedChanges>();

  /** The policy raised an error for somebody; the change is wanted. */
  policyFailed(subscription: Subscription, change: DecodedChange): void {
    this.#of(subscription).failed.add(change);
  }

  /** Whether the change is wanted cannot be told. */
  conditionFailed(subscription: Subscription, change: DecodedChange): void {
    const { matching, failed } = this.#of(subscription);
    matching.add(change);
    failed.add(change);
  }

  /** The changes of a batch, and who wants them by `wants`, which knows all columns. */
  add(
    tableBatch: TableBatch,
    subscriptions: TableSubscriptions,
    matches: FilterMatches,
    undeliveredReasonOf: (entry: Entry) => UndeliveredReason,
  ): void {
    const { oid } = tableBatch.view.facts;
    const counts = countsOf(tableBatch.changes);
    this.#seen.set(oid, sumOf(this.#seen.get(oid), counts));
    for (const entry of subscriptions.unconditional()) {
      const { subscription } = entry;
      const { filter, seen } = subscription;
      const matched = this.#of(subscription);
      // One by one only where some may have been in its snapshot.
      matched.all +=
        seen === undefined
          ? filter.events.reduce((sum, event) => sum + counts[event], 0)
          : tableBatch.changes.filter((change) => isSubscribedTo(subscription, change)).length;
      matched.undeliveredReason = undeliveredReasonOf(entry);
    }
    for (const change of tableBatch.changes)
      for (const entry of matches.matching(change)) {
        const matched = this.#of(entry.subscription);
        matched.matching.add(change);
        matched.undeliveredReason = undeliveredReasonOf(entry);
      }
  }

  /** What became of all; `delivered`: what at least one member got. */
  finish(delivered: DeliveredChanges): ChangeOutcomes {
    const outcomes = new Map<Subscription, Record<Outcome, number>>();
    for (const [subscription, { all, matching, failed, undeliveredReason }] of this.#matched) {
      const got = new Set([...(delivered.get(subscription) ?? [])].filter(eventOf));
      const error = [...failed].filter((change) => !got.has(change)).length;
      const own = { delivered: got.size, error, policy: 0, privilege: 0, unheard: 0 };
      own[undeliveredReason] = all + matching.size - got.size - error;
      outcomes.set(subscription, own);
    }
    return { seen: this.#seen, outcomes };
  }

  #of(subscription: Subscription): MatchedChanges {
    let matched = this.#matched.get(subscription);
    if (matched === undefined) {
      matched = { all: 0, matching: new Set(), failed: new Set(), undeliveredReason: 'policy' };
      this.#matched.set(subscription, matched);
    }
    return matched;
  }
}

function countsOf(changes: readonly DecodedChange[]): EventCounts {
  const counts = { INSERT: 0, UPDATE: 0, DELETE: 0 };
  for (const change of changes) {
    const event = eventOf(change);
    if (event !== undefined) counts[event] += 1;
  }
  return counts;
}

function sumOf(a: EventCounts | undefined, b: EventCounts): EventCounts {
  if (a === undefined) return b;
  return { INSERT: a.INSERT + b.INSERT, UPDATE: a.UPDATE + b.UPDATE, DELETE: a.DELETE + b.DELETE };
}
