import type { RecipientGroup } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { Subscription } from '../subscriptions/subscription.js';

/** A message with the index of its change in the batch. */
export interface ListedMessage {
  readonly batchIndex: number;
  readonly frame: Buffer;
  /** The subscriptions whose change it is; none for a gap or a message of `realtime.send`. */
  readonly subscriptions: readonly Subscription[];
}

/** The messages of one table's changes. */
export type MessageList = readonly ListedMessage[];

/** Everything that the members of a recipient group get of a batch. */
export interface GroupDelivery {
  readonly group: RecipientGroup;
  /** One list for each table. Groups that see the same rows may share a list. */
  readonly lists: MessageList[];
  /** The subscriptions whose policy or condition failed on some row, and the table as it was then. */
  readonly failed: Map<Subscription, TableFacts>;
}

/** Collects the deliveries of a batch by recipient group. */
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
