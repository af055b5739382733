import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Authorizer } from '../visibility/authorizer.js';
import { SubscriptionIndex } from './subscription-index.js';

export interface SubscriptionIndexesParts {
  readonly authorizer: Pick<Authorizer, 'compileCondition'>;
  readonly personal: Pick<PersonalSubscriptions, 'byTable' | 'version'>;
  readonly subscriptions: { byTable(oid: number): readonly Subscription[] };
}

/** The indexed subscriptions of a table, and the inputs that they were made of. */
interface Indexed {
  readonly facts: TableFacts;
  /** The subscriptions of channels. */
  readonly shared: readonly Subscription[];
  /** The version of the personal subscriptions. */
  readonly version: number;
  readonly subscriptions: SubscriptionIndex;
}

/** Keeps the indexed subscriptions of each table, and updates them when the table or the subscriptions change. */
export class SubscriptionIndexes {
  readonly #parts: SubscriptionIndexesParts;
  readonly #byTable = new Map<number, Indexed>();

  constructor(parts: SubscriptionIndexesParts) {
    this.#parts = parts;
  }

  /** Returns the subscriptions to a table, of channels and of connections. */
  async of(facts: TableFacts): Promise<SubscriptionIndex> {
    const { authorizer, personal, subscriptions: registry } = this.#parts;
    const shared = registry.byTable(facts.oid);
    const { version } = personal;
    const known = this.#byTable.get(facts.oid);
    if (known?.facts === facts && known.shared === shared && known.version === version)
      return known.subscriptions;
    const all: [SubscriptionTarget, Subscription][] = [];
    for (const subscription of shared)
      if (subscription.active) all.push([subscription.channelName, subscription]);
    for (const [owner, some] of personal.byTable(facts.oid))
      for (const subscription of some) all.push([owner, subscription]);
    const subscriptions =
      known?.facts === facts ? known.subscriptions : new SubscriptionIndex(authorizer, facts);
    await subscriptions.update(all);
    this.#byTable.set(facts.oid, { facts, shared, version, subscriptions });
    return subscriptions;
  }
}
