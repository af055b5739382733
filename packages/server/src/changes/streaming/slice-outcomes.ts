import type { ChangeOutcomes, EventCounts, Outcome } from '../subscriptions/change-counts.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { type ChangeBatch, type DecodedChange, eventOf } from './decoded-change.js';
import type { Delivered } from './list-writer.js';
import type { Entry, TableSubscriptions } from './table-subscriptions.js';
import { isOffered, type Wants } from './wants.js';

/** Why nobody at a place gets a change that is wanted there. */
export type Standing = Extract<Outcome, 'policy' | 'privilege' | 'unheard'>;

/** The changes that one subscription wants. */
interface Wanted {
  /** How many, where it wants all. */
  all: number;
  /** Which, where it has a condition. */
  readonly matching: Set<DecodedChange>;
  readonly failed: Set<DecodedChange>;
  standing: Standing;
}

/** Gathers what becomes of the changes of a slice, for each subscription that wants them. */
export class SliceOutcomes {
  readonly #seen = new Map<number, EventCounts>();
  readonly #wanted = new Map<Subscription, Wanted>();

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
    batch: ChangeBatch,
    subscriptions: TableSubscriptions,
    wants: Wants,
    standingOf: (entry: Entry) => Standing,
  ): void {
    const { oid } = batch.view.facts;
    const counts = countsOf(batch.changes);
    this.#seen.set(oid, sumOf(this.#seen.get(oid), counts));
    for (const entry of subscriptions.unconditional()) {
      const { subscription } = entry;
      const { filter, seen } = subscription;
      const wanted = this.#of(subscription);
      // One by one only where some may have been in its snapshot.
      wanted.all +=
        seen === undefined
          ? filter.events.reduce((sum, event) => sum + counts[event], 0)
          : batch.changes.filter((change) => isOffered(subscription, change)).length;
      wanted.standing = standingOf(entry);
    }
    for (const change of batch.changes)
      for (const entry of wants.matching(change)) {
        const wanted = this.#of(entry.subscription);
        wanted.matching.add(change);
        wanted.standing = standingOf(entry);
      }
  }

  /** What became of all; `delivered`: what at least one member got. */
  finish(delivered: Delivered): ChangeOutcomes {
    const outcomes = new Map<Subscription, Record<Outcome, number>>();
    for (const [subscription, { all, matching, failed, standing }] of this.#wanted) {
      const got = new Set([...(delivered.get(subscription) ?? [])].filter(eventOf));
      const error = [...failed].filter((change) => !got.has(change)).length;
      const own = { delivered: got.size, error, policy: 0, privilege: 0, unheard: 0 };
      own[standing] = all + matching.size - got.size - error;
      outcomes.set(subscription, own);
    }
    return { seen: this.#seen, outcomes };
  }

  #of(subscription: Subscription): Wanted {
    let wanted = this.#wanted.get(subscription);
    if (wanted === undefined) {
      wanted = { all: 0, matching: new Set(), failed: new Set(), standing: 'policy' };
      this.#wanted.set(subscription, wanted);
    }
    return wanted;
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
