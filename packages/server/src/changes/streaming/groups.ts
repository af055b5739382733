import type { Subscription } from '../subscriptions/subscription.js';
import type { TableFacts } from '../table-facts.js';
import type { Seat } from './seat.js';

/** The messages of one table's changes, each with its place in the slice. */
export type FrameList = readonly { readonly position: number; readonly frame: Buffer }[];

/** What the members of a seat get of a slice. */
export interface Group {
  readonly seat: Seat;
  /** One list for each table; groups that see the same may share it. */
  readonly lists: FrameList[];
  /** The subscriptions whose policy or condition failed on some row, and the table as it was then. */
  readonly failed: Map<Subscription, TableFacts>;
}

/** The seats that get something of a slice. */
export class Groups {
  readonly #groups = new Map<Seat, Group>();

  of(seat: Seat): Group {
    let group = this.#groups.get(seat);
    if (group === undefined) {
      group = { seat, lists: [], failed: new Map() };
      this.#groups.set(seat, group);
    }
    return group;
  }

  all(): Iterable<Group> {
    return this.#groups.values();
  }
}
