import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { ChangeOutcomes, EventCounts, Outcome } from '../subscriptions/change-counts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { type FilterMatches, isSubscribedTo } from './filter-matches.js';
import type { DeliveredChanges } from './message-list-builder.js';
import type { SubscriptionEntry, SubscriptionIndex } from './subscription-index.js';
import { type DecodedChange, eventOf, type TableBatch } from './table-batch.js';

/** The reason why no member of a target gets a matching change. */
export type UndeliveredReason = Extract<Outcome, 'policy' | 'privilege' | 'unheard'>;

/** The changes of a batch that match one subscription. */
interface MatchedChanges {
  /** The number of changes, for a subscription without a condition. */
  unconditionalCount: number;
  /** The changes, for a subscription with a condition. */
  readonly matching: Set<DecodedChange>;
  /** The changes for which a policy or the condition raised an error, or that are too large to send. */
  readonly failed: Set<DecodedChange>;
  undeliveredReason: UndeliveredReason;
}

/** Collects the outcomes of the changes of a batch, for each matching subscription. */
export class BatchOutcomes {
  readonly #countsByTable = new Map<number, EventCounts>();
  readonly #matched = new Map<Subscription, MatchedChanges>();
  readonly #targets = new Map<Subscription, SubscriptionTarget>();

  /** The targets of subscriptions with matching changes. */
  get targets(): ReadonlyMap<Subscription, SubscriptionTarget> {
    return this.#targets;
  }

  /** Records that the change matches, and that a policy raised an error for some viewer. */
  policyFailed(subscription: Subscription, change: DecodedChange): void {
    this.#matchedOf(subscription).failed.add(change);
  }

  /** Records that the condition raised an error: whether the change matches is unknown. */
  conditionFailed(subscription: Subscription, change: DecodedChange): void {
    const { matching, failed } = this.#matchedOf(subscription);
    matching.add(change);
    failed.add(change);
  }

  /** Records that the change matches, and that it is too large to send to some viewer. */
  tooLarge(subscription: Subscription, change: DecodedChange): void {
    this.#matchedOf(subscription).failed.add(change);
  }

  /** Counts the changes of one table. `matches` must be allowed to read all columns. */
  add(
    tableBatch: TableBatch,
    subscriptions: SubscriptionIndex,
    matches: FilterMatches,
    undeliveredReasonOf: (entry: SubscriptionEntry) => UndeliveredReason,
  ): void {
    const { oid } = tableBatch.layout.facts;
    const counts = countsOf(tableBatch.changes);
    this.#countsByTable.set(oid, sumOf(this.#countsByTable.get(oid), counts));
    for (const entry of subscriptions.unconditional()) {
      const { subscription } = entry;
      this.#targets.set(subscription, entry.target);
      const { filter, snapshot } = subscription;
      const matched = this.#matchedOf(subscription);
      // Changes are checked one by one only where the subscription's snapshot may have seen some of them.
      matched.unconditionalCount +=
        snapshot === undefined
          ? filter.events.reduce((sum, event) => sum + counts[event], 0)
          : tableBatch.changes.filter((change) => isSubscribedTo(subscription, change)).length;
      matched.undeliveredReason = undeliveredReasonOf(entry);
    }
    if (!subscriptions.hasConditions) return;
    for (const change of tableBatch.changes)
      for (const entry of matches.matching(change)) {
        const matched = this.#matchedOf(entry.subscription);
        this.#targets.set(entry.subscription, entry.target);
        matched.matching.add(change);
        matched.undeliveredReason = undeliveredReasonOf(entry);
      }
  }

  /** Returns the outcomes of all changes. `delivered`: the changes that at least one member gets. */
  finish(delivered: DeliveredChanges): ChangeOutcomes<Subscription> {
    const outcomes = new Map<Subscription, Record<Outcome, number>>();
    for (const [subscription, { unconditionalCount, matching, failed, undeliveredReason }] of this.#matched) {
      const changes = delivered.get(subscription) ?? NO_CHANGES;
      let count = 0;
      for (const change of changes) if (eventOf(change) !== undefined) count += 1;
      let error = 0;
      for (const change of failed) if (!changes.has(change)) error += 1;
      const outcomeCounts = { delivered: count, error, policy: 0, privilege: 0, unheard: 0 };
      outcomeCounts[undeliveredReason] = unconditionalCount + matching.size - count - error;
      outcomes.set(subscription, outcomeCounts);
    }
    return { changesByTable: this.#countsByTable, outcomes };
  }

  #matchedOf(subscription: Subscription): MatchedChanges {
    let matched = this.#matched.get(subscription);
    if (matched === undefined) {
      matched = {
        unconditionalCount: 0,
        matching: new Set(),
        failed: new Set(),
        undeliveredReason: 'policy',
      };
      this.#matched.set(subscription, matched);
    }
    return matched;
  }
}

const NO_CHANGES: ReadonlySet<DecodedChange> = new Set();

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
