import type { Verdict } from '../authorizer.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { type ChangeBatch, type DecodedChange, eventOf, NO_ROW } from './decoded-change.js';
import type { Place, Seat } from './seat.js';
import type { Entry, TableSubscriptions } from './table-subscriptions.js';

/** A change that some subscription wants, whoever may see it. */
export interface Candidate {
  readonly change: DecodedChange;
  /** Those whose condition is true of the old version, and of the new one. */
  readonly oldWanted: readonly Subscription[];
  readonly newWanted: readonly Subscription[];
  /** Whether the old version was wanted cannot be told: the log does not have it, or not the columns that matter. */
  readonly isOldUnknown: boolean;
}

const NONE: readonly Subscription[] = [];

/** Whether the change is one that the subscription is about, and not in the snapshot that it began with. */
export function isOffered({ filter, seen }: Subscription, change: DecodedChange): boolean {
  const event = eventOf(change);
  if (event === undefined || !filter.events.includes(event)) return false;
  return seen?.sees(change.streamed.transaction.xid) !== true;
}

/**
 * What of a batch is wanted by the subscriptions of channels and of connections, as far as one role may know: a
 * condition on a column that it may not read would be an oracle.
 */
export class Wants {
  readonly #batch: ChangeBatch;
  readonly #subscriptions: TableSubscriptions;
  /** What PostgreSQL said of conditions, by their SQL. */
  readonly #answers: ReadonlyMap<string, Verdict>;
  /** The names of those that the role may read. */
  readonly #columns: ReadonlySet<string>;
  readonly #sets = new SubscriptionSets();
  /** The places of the columns that conditions read. */
  readonly #required = new Map<readonly string[], readonly number[] | null>();
  readonly #matching = new Map<DecodedChange, ReadonlyMap<Place, readonly Entry[]>>();
  readonly #ofChannels = new Map<DecodedChange, Map<string, Candidate | undefined>>();

  constructor(
    batch: ChangeBatch,
    subscriptions: TableSubscriptions,
    answers: ReadonlyMap<string, Verdict>,
    columns: ReadonlySet<string>,
  ) {
    this.#batch = batch;
    this.#subscriptions = subscriptions;
    this.#answers = answers;
    this.#columns = columns;
  }

  /** Whether anybody wants the change. */
  isWanted(change: DecodedChange): boolean {
    if (change.streamed.kind === 'truncate') return !this.#subscriptions.isEmpty;
    return this.#subscriptions.hasAlways || this.#matchingOf(change).size > 0;
  }

  /** The places that want the change by a condition; those that want every change are `subscriptions.withAlways`. */
  conditionalPlaces(change: DecodedChange): Iterable<Place> {
    return this.#matchingOf(change).keys();
  }

  /** The subscriptions that want the change by a condition. */
  matching(change: DecodedChange): readonly Entry[] {
    return [...this.#matchingOf(change).values()]
      .flat()
      .filter((entry) => isOffered(entry.subscription, change));
  }

  /** What the members of a seat want of a change; undefined: nothing. */
  of(change: DecodedChange, { channel, owner }: Seat): Candidate | undefined {
    if (owner !== undefined) return this.#candidate(change, [channel.name, owner]);
    let known = this.#ofChannels.get(change);
    if (known === undefined) {
      known = new Map();
      this.#ofChannels.set(change, known);
    }
    if (known.has(channel.name)) return known.get(channel.name);
    const candidate = this.#candidate(change, [channel.name]);
    known.set(channel.name, candidate);
    return candidate;
  }

  #candidate(change: DecodedChange, places: readonly Place[]): Candidate | undefined {
    const subscriptions = this.#subscriptions;
    if (change.streamed.kind === 'truncate') {
      const all = this.#sets.of(places.flatMap((place) => [...subscriptions.of(place)]));
      return all.length === 0 ? undefined : { change, oldWanted: all, newWanted: NONE, isOldUnknown: false };
    }
    const matching = this.#matchingOf(change);
    const interested: Entry[] = [];
    for (const place of places) {
      for (const entry of [...subscriptions.always(place), ...(matching.get(place) ?? [])])
        if (isOffered(entry.subscription, change)) interested.push(entry);
    }
    if (interested.length === 0) return undefined;
    interested.sort((a, b) => a.order - b.order);
    const oldWanted = this.#wanting(interested, change.oldRow);
    const newWanted = this.#wanting(interested, change.newRow);
    if (oldWanted.length + newWanted.length === 0) return undefined;
    return { change, oldWanted, newWanted, isOldUnknown: this.#isUnknown(interested, change.oldRow) };
  }

  #wanting(entries: readonly Entry[], row: number): readonly Subscription[] {
    if (row === NO_ROW) return NONE;
    return this.#sets.of(entries.filter((entry) => this.#holds(entry, row)));
  }

  #holds({ subscription: { condition }, test }: Entry, row: number): boolean {
    if (condition === null) return true;
    if (!this.#mayAsk(condition.columns) || !this.#knows(row, condition.columns)) return false;
    if (test !== undefined) return test(this.#batch.exact(row), []) === true;
    return this.#answers.get(condition.sql)?.visible.has(row) === true;
  }

  #isUnknown(entries: readonly Entry[], row: number): boolean {
    if (row === NO_ROW) return true;
    return entries.some(
      ({ subscription: { condition } }) => condition !== null && !this.#knows(row, condition.columns),
    );
  }

  #mayAsk(columns: readonly string[]): boolean {
    return columns.every((name) => this.#columns.has(name));
  }

  #knows(row: number, columns: readonly string[]): boolean {
    let required = this.#required.get(columns);
    if (required === undefined) {
      required = this.#batch.view.requirement(columns);
      this.#required.set(columns, required);
    }
    return required !== null && this.#batch.knows(row, required);
  }

  /** By place, the entries with a condition that is true of a version of the row. */
  #matchingOf(change: DecodedChange): ReadonlyMap<Place, readonly Entry[]> {
    let found = this.#matching.get(change);
    if (found !== undefined) return found;
    const entries = new Set<Entry>();
    for (const row of [change.oldRow, change.newRow]) {
      if (row === NO_ROW) continue;
      const isKnown = (place: number) => this.#batch.knows(row, [place]);
      for (const entry of this.#subscriptions.candidates(this.#batch.exact(row), isKnown))
        if (this.#holds(entry, row)) entries.add(entry);
    }
    const byPlace = new Map<Place, Entry[]>();
    for (const entry of entries) {
      const others = byPlace.get(entry.place);
      if (others === undefined) byPlace.set(entry.place, [entry]);
      else others.push(entry);
    }
    found = byPlace;
    this.#matching.set(change, found);
    return found;
  }
}

/** Equal sets of subscriptions are one array, so that what is made for a set is made once. */
class SubscriptionSets {
  readonly #known = new Map<string, readonly Subscription[]>();

  of(entries: readonly Entry[]): readonly Subscription[] {
    const key = entries.map(({ subscription: { id } }) => id).join();
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const subscriptions = entries.map(({ subscription }) => subscription);
    this.#known.set(key, subscriptions);
    return subscriptions;
  }
}
