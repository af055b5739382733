import type { RecipientGroup } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';

/** The messages of one table's changes, each with its place in the slice. */
export type MessageList = readonly { readonly batchIndex: number; readonly frame: Buffer }[];

/** What the members of a seat get of a slice. */
export interface GroupDelivery {
  readonly group: RecipientGroup;
  /** One list for each table; groups that see the same may share it. */
  readonly lists: MessageList[];
  /** The subscriptions whose policy or condition failed on some row, and the table as it was then. */
  readonly failed: Map<Subscription, TableFacts>;
}

/** The seats that get something of a slice. */
export class GroupDeliveries {
  readonly #deliveries = new Map<RecipientGroup, GroupDelivery>();

  of(group: RecipientGroup): GroupDelivery {
    let delivery = this.#deliveries.get(group);
    if (delivery === undefined) {
      delivery = { group, lists: [], failed: new Map() };
      this.#deliveries.set(group, delivery);
    }
    return delivery;
  }

  all(): Iterable<GroupDelivery> {
    return this.#deliveries.values();
  }
}
