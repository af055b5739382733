import type { FilterEvent } from '../change-filter.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { type DecodedChange, NO_ROW } from './decoded-change.js';

/** What the conditions said: by a condition's SQL, the rows on which it is true, and those that it cannot be asked of. */
export type ConditionResults = ReadonlyMap<
  string,
  { readonly holds: ReadonlySet<number>; readonly unknown: ReadonlySet<number> }
>;

/** A change that some subscription of a channel wants, whoever may see it. */
export interface Candidate {
  readonly change: DecodedChange;
  /** Those whose condition is true of the old version, and of the new one. */
  readonly oldWanted: readonly Subscription[];
  readonly newWanted: readonly Subscription[];
  /** Whether the old version was wanted cannot be told: the log does not have it, or not the columns that matter. */
  readonly isOldUnknown: boolean;
}

const NONE: readonly Subscription[] = [];
const EVENTS = { insert: 'INSERT', update: 'UPDATE', delete: 'DELETE' } as const satisfies Record<
  string,
  FilterEvent
>;

/** The changes that the subscriptions of one channel and table want. A TRUNCATE is wanted by all. */
export function candidatesOf(
  changes: readonly DecodedChange[],
  subscriptions: readonly Subscription[],
  results: ConditionResults,
): Candidate[] {
  const byEvent = new Map<string, readonly Subscription[]>();
  const sets = new SubscriptionSets();
  const found: Candidate[] = [];
  for (const change of changes) {
    const { kind } = change.streamed;
    if (kind === 'truncate') {
      found.push({ change, oldWanted: subscriptions, newWanted: NONE, isOldUnknown: false });
      continue;
    }
    let interested = byEvent.get(kind);
    if (interested === undefined) {
      interested = subscriptions.filter(({ filter }) => filter.events.includes(EVENTS[kind]));
      byEvent.set(kind, interested);
    }
    if (interested.some(({ seen }) => seen !== undefined)) {
      const { xid } = change.streamed.transaction;
      interested = sets.of(interested.filter(({ seen }) => seen?.sees(xid) !== true));
    }
    if (interested.length === 0) continue;
    const oldWanted = sets.wanting(interested, change.oldRow, results);
    const newWanted = sets.wanting(interested, change.newRow, results);
    if (oldWanted.length + newWanted.length === 0) continue;
    found.push({ change, oldWanted, newWanted, isOldUnknown: isUnknown(interested, change.oldRow, results) });
  }
  return found;
}

/** Equal sets of subscriptions are one array, so that what is made for a set is made once. */
class SubscriptionSets {
  readonly #known = new Map<string, readonly Subscription[]>();

  wanting(
    subscriptions: readonly Subscription[],
    row: number,
    results: ConditionResults,
  ): readonly Subscription[] {
    if (row === NO_ROW) return NONE;
    const holds = ({ condition }: Subscription) =>
      condition === null || results.get(condition.sql)?.holds.has(row) === true;
    if (subscriptions.every(holds)) return subscriptions;
    return this.of(subscriptions.filter(holds));
  }

  of(subscriptions: readonly Subscription[]): readonly Subscription[] {
    const key = subscriptions.map(({ id }) => id).join();
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    this.#known.set(key, subscriptions);
    return subscriptions;
  }
}

function isUnknown(subscriptions: readonly Subscription[], row: number, results: ConditionResults): boolean {
  if (row === NO_ROW) return true;
  return subscriptions.some(
    ({ condition }) => condition !== null && results.get(condition.sql)?.unknown.has(row) === true,
  );
}
