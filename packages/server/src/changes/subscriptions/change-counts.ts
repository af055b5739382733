import type { Clock } from '../../lib/clock.js';
import type { ChangeFilter, FilterEvent } from '../model/change-filter.js';

/** What became of the changes that a subscription wanted; a change counts once, as the first of these that it was. */
const OUTCOMES = ['delivered', 'error', 'policy', 'privilege', 'unheard'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** How many changes of a table there were, by event. */
export type EventCounts = Readonly<Record<FilterEvent, number>>;

/** The counts of one subscription since `since`. */
export interface SubscriptionCounts {
  readonly since: Date;
  /** How many changes of its table there had been by then. */
  readonly before: EventCounts;
  readonly outcomes: Record<Outcome, number>;
}

/** A subscription, as far as it matters here. */
interface Counted {
  readonly counts: SubscriptionCounts;
  /** Its table. */
  readonly tableOid: number | undefined;
  readonly filter: ChangeFilter;
}

/** What became of changes: those of tables by oid, and of each subscription those that it wanted. */
export interface ChangeOutcomes {
  readonly seen: ReadonlyMap<number, EventCounts>;
  readonly outcomes: ReadonlyMap<{ readonly counts: SubscriptionCounts }, Readonly<Record<Outcome, number>>>;
}

const NONE: EventCounts = { INSERT: 0, UPDATE: 0, DELETE: 0 };

/**
 * Counts, for each subscription, what became of the changes of its table. Those that its condition does not want cost
 * nothing: they are what is left of all.
 */
export class ChangeCounts {
  readonly #clock: Clock;
  readonly #seen = new Map<number, EventCounts>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The counts of a subscription that begins now; `oid`: its table. */
  begin(oid: number | undefined): SubscriptionCounts {
    return {
      since: new Date(this.#clock()),
      before: this.#of(oid),
      outcomes: { delivered: 0, error: 0, policy: 0, privilege: 0, unheard: 0 },
    };
  }

  add({ seen, outcomes }: ChangeOutcomes): void {
    for (const [oid, counts] of seen) {
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

  /** The changes, of the subscription's table and events, that its condition did not want. */
  unwanted({ counts: { before, outcomes }, tableOid, filter }: Counted): number {
    const now = this.#of(tableOid);
    const all = filter.events.reduce((sum, event) => sum + now[event] - before[event], 0);
    return all - OUTCOMES.reduce((sum, outcome) => sum + outcomes[outcome], 0);
  }

  #of(oid: number | undefined): EventCounts {
    return (oid === undefined ? undefined : this.#seen.get(oid)) ?? NONE;
  }
}
