import type { WallClock } from '../../lib/clock.js';
import type { ChangeFilter, FilterEvent } from '../model/change-filter.js';

/** Outcomes of a change that matches a subscription. It counts once, as the first of these that applies. */
const OUTCOMES = ['delivered', 'error', 'policy', 'privilege', 'unheard'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** The number of a table's changes, by event. */
export type EventCounts = Readonly<Record<FilterEvent, number>>;

/** The counts of one subscription since `since`. */
export interface SubscriptionCounts {
  readonly since: Date;
  /** The number of its table's changes before `since`. */
  readonly before: EventCounts;
  readonly outcomes: Record<Outcome, number>;
}

/** The part of a subscription that counting needs. */
interface Counted {
  readonly counts: SubscriptionCounts;
  readonly tableOid: number | undefined;
  readonly filter: ChangeFilter;
}

/** What a batch adds: the changes of each table by oid, and the outcomes of those that match each subscription. */
export interface ChangeOutcomes<Subscription extends { readonly counts: SubscriptionCounts }> {
  readonly changesByTable: ReadonlyMap<number, EventCounts>;
  readonly outcomes: ReadonlyMap<Subscription, Readonly<Record<Outcome, number>>>;
}

const NONE: EventCounts = { INSERT: 0, UPDATE: 0, DELETE: 0 };

/**
 * Counts, for each subscription, the outcomes of its table's changes. Changes that its condition filters out are not
 * counted one by one: they are the difference to all changes of the table.
 */
export class ChangeCounts {
  readonly #wallClock: WallClock;
  readonly #seen = new Map<number, EventCounts>();

  constructor(wallClock: WallClock) {
    this.#wallClock = wallClock;
  }

  /** Starts the counts of a subscription; `oid`: its table. */
  begin(oid: number | undefined): SubscriptionCounts {
    return {
      since: new Date(this.#wallClock.epochMs()),
      before: this.#of(oid),
      outcomes: { delivered: 0, error: 0, policy: 0, privilege: 0, unheard: 0 },
    };
  }

  add({ changesByTable, outcomes }: ChangeOutcomes<{ readonly counts: SubscriptionCounts }>): void {
    for (const [oid, counts] of changesByTable) {
      const { INSERT, UPDATE, DELETE } = this.#of(oid);
      this.#seen.set(oid, {
        INSERT: INSERT + counts.INSERT,
        UPDATE: UPDATE + counts.UPDATE,
        DELETE: DELETE + counts.DELETE,
      });
    }
    for (const [{ counts }, own] of outcomes)
      for (const outcome of OUTCOMES) counts.outcomes[outcome] += own[outcome];
  }

  /** Returns how many changes of the subscription's table and events its condition filtered out. */
  filteredOut({ counts: { before, outcomes }, tableOid, filter }: Counted): number {
    const now = this.#of(tableOid);
    const all = filter.events.reduce((sum, event) => sum + now[event] - before[event], 0);
    return all - OUTCOMES.reduce((sum, outcome) => sum + outcomes[outcome], 0);
  }

  #of(oid: number | undefined): EventCounts {
    return (oid === undefined ? undefined : this.#seen.get(oid)) ?? NONE;
  }
}
