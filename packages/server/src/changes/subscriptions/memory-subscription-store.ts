import type { StoredSubscription, SubscriptionStore } from './subscription-store.js';

/** Keeps subscriptions in memory. */
export class MemorySubscriptionStore implements SubscriptionStore {
  readonly #subscriptions = new Map<string, StoredSubscription>();

  async load(): Promise<StoredSubscription[]> {
    return [...this.#subscriptions.values()];
  }

  async add(subscription: StoredSubscription): Promise<StoredSubscription> {
    for (const known of this.#subscriptions.values()) {
      if (known.channelName === subscription.channelName && known.filterKey === subscription.filterKey)
        return known;
    }
    this.#subscriptions.set(subscription.id, subscription);
    return subscription;
  }

  async remove(id: string): Promise<void> {
    this.#subscriptions.delete(id);
  }

  async removeChannel(channelName: string): Promise<void> {
    for (const { id, channelName: name } of this.#subscriptions.values())
      if (name === channelName) this.#subscriptions.delete(id);
  }

  async count(counts: readonly { id: string; messageCount: number; lastActivity: Date }[]): Promise<void> {
    for (const { id, messageCount, lastActivity } of counts) {
      const known = this.#subscriptions.get(id);
      if (known !== undefined) this.#subscriptions.set(id, { ...known, messageCount, lastActivity });
    }
  }
}
