import { comparePositions, type Position } from '../model/position.js';
import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { RoutedBatch } from '../routing/batch-router.js';
import type { ChangeCounts, ChangeOutcomes } from '../subscriptions/change-counts.js';
import type { Subscription } from '../subscriptions/subscription.js';

export interface OutcomeCountsParts {
  readonly counts: Pick<ChangeCounts, 'add'>;
  readonly subscriptions: { countDelivered(subscription: Subscription, changes: number): void };
}

type Routed = Pick<RoutedBatch, 'delivered' | 'outcomes' | 'targets'>;

/**
 * Counts what becomes of the changes of subscriptions, each change once: in the live stream, or in the replay of delayed
 * members where nobody follows the subscription live.
 */
export class OutcomeCounts {
  readonly #parts: OutcomeCountsParts;
  /** Up to where tables (by oid) and subscriptions are counted, while there are delayed members. */
  readonly #countedUpTo = new Map<number | Subscription['counts'], Position>();

  constructor(parts: OutcomeCountsParts) {
    this.#parts = parts;
  }

  /**
   * Counts a live batch up to `end`. `isDelayed`: whether all who follow a target get the batch by replay; undefined: there
   * are no delayed members.
   */
  countLive(
    routed: Routed,
    end: Position,
    isDelayed: ((target: SubscriptionTarget, oid: number) => boolean) | undefined,
  ): void {
    if (isDelayed === undefined) {
      this.#countedUpTo.clear();
      this.#count(routed.delivered, routed.outcomes);
      return;
    }
    const isLive = ({ tableOid }: Subscription, target: SubscriptionTarget | undefined) =>
      target === undefined || tableOid === undefined || !isDelayed(target, tableOid);
    this.#countNew(routed, end, isLive);
  }

  /**
   * Counts a page up to `end` that delayed members got, with these targets. Where the live stream has not decided a table at
   * all, all its subscriptions are counted.
   */
  countReplay(routed: Routed, end: Position, targets: ReadonlySet<SubscriptionTarget>): void {
    this.#countNew(
      routed,
      end,
      ({ tableOid }, target, newTables) =>
        target !== undefined && (targets.has(target) || newTables.has(tableOid)),
    );
  }

  /** A new change epoch has begun: positions start again. */
  reset(): void {
    this.#countedUpTo.clear();
  }

  #countNew(
    routed: Routed,
    end: Position,
    isIncluded: (
      subscription: Subscription,
      target: SubscriptionTarget | undefined,
      newTables: ReadonlySet<number | undefined>,
    ) => boolean,
  ): void {
    const { delivered, outcomes, targets } = routed;
    const tables = [...outcomes.changesByTable].filter(([oid]) => this.#advance(oid, end));
    const newTables = new Set<number | undefined>(tables.map(([oid]) => oid));
    const subscriptions = new Set([...outcomes.outcomes.keys(), ...delivered.keys()]);
    for (const subscription of subscriptions)
      if (
        !isIncluded(subscription, targets.get(subscription), newTables) ||
        !this.#advance(subscription.counts, end)
      )
        subscriptions.delete(subscription);
    const ofIncluded = <T>(map: ReadonlyMap<Subscription, T>) =>
      new Map([...map].filter(([subscription]) => subscriptions.has(subscription)));
    this.#count(ofIncluded(delivered), {
      changesByTable: new Map(tables),
      outcomes: ofIncluded(outcomes.outcomes),
    });
  }

  /** Returns false if this was counted up to `end` before. */
  #advance(counted: number | Subscription['counts'], end: Position): boolean {
    const before = this.#countedUpTo.get(counted);
    if (before !== undefined && comparePositions(before, end) >= 0) return false;
    this.#countedUpTo.set(counted, end);
    return true;
  }

  #count(delivered: Routed['delivered'], outcomes: ChangeOutcomes<Subscription>): void {
    const { counts, subscriptions } = this.#parts;
    for (const [subscription, all] of delivered) subscriptions.countDelivered(subscription, all.size);
    counts.add(outcomes);
  }
}
