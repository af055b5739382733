import type { SubscriptionTarget } from '../model/recipient-group.js';
import type { TableFacts } from '../model/table-facts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';
import type { Authorizer } from '../visibility/authorizer.js';
import type { Deadline } from '../visibility/deadline.js';
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
  /** By oid: an update goes on when its caller has given up, and the next one follows it. */
  readonly #updates = new Map<number, Promise<SubscriptionIndex>>();

  constructor(parts: SubscriptionIndexesParts) {
    this.#parts = parts;
  }

  /** Returns the subscriptions to a table, of channels and of connections. Throws NotDecided after the deadline. */
  of(facts: TableFacts, deadline?: Deadline): SubscriptionIndex | Promise<SubscriptionIndex> {
    const current = this.#current(facts);
    if (current !== undefined) return current;
    const before = this.#updates.get(facts.oid);
    const update = async () => {
      await before?.catch(() => undefined);
      return this.#current(facts) ?? this.#update(facts);
    };
    const updating = update().finally(() => {
      if (this.#updates.get(facts.oid) === updating) this.#updates.delete(facts.oid);
    });
    this.#updates.set(facts.oid, updating);
    return deadline === undefined ? updating : deadline.within(updating);
  }

  #current(facts: TableFacts): SubscriptionIndex | undefined {
    const { personal, subscriptions: registry } = this.#parts;
    const known = this.#byTable.get(facts.oid);
    const isCurrent =
      known?.facts === facts &&
      known.shared === registry.byTable(facts.oid) &&
      known.version === personal.version;
    return isCurrent ? known.subscriptions : undefined;
  }

  async #update(facts: TableFacts): Promise<SubscriptionIndex> {
    const { authorizer, personal, subscriptions: registry } = this.#parts;
    const shared = registry.byTable(facts.oid);
    const { version } = personal;
    const known = this.#byTable.get(facts.oid);
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
