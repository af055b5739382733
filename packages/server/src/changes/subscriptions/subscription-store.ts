import type { ChangeFilter } from '../model/change-filter.js';

/** A subscription as it is stored. */
export interface StoredSubscription {
  readonly id: string;
  readonly channelName: string;
  readonly filter: ChangeFilter;
  /** Equal for equal filters. */
  readonly filterKey: string;
  readonly userId: string;
  readonly role: string;
  readonly createdAt: Date;
  readonly messageCount: number;
  readonly lastActivity: Date | null;
}

/** Stores subscriptions. */
export interface SubscriptionStore {
  load(): Promise<StoredSubscription[]>;
  /** Stores a subscription and returns it. If the channel has one with this filter, returns that one instead. */
  add(subscription: StoredSubscription): Promise<StoredSubscription>;
  remove(id: string): Promise<void>;
  removeChannel(channelName: string): Promise<void>;
  /** Stores the counts of these subscriptions. */
  count(counts: readonly { id: string; messageCount: number; lastActivity: Date }[]): Promise<void>;
}
