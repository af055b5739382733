import type { ChangeFilter } from '../model/change-filter.js';

/** A subscription as it is kept. */
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

/** Where subscriptions are kept. */
export interface SubscriptionStore {
  load(): Promise<StoredSubscription[]>;
  /** Keeps it, unless the channel has one of this filter: then answers that one. */
  add(subscription: StoredSubscription): Promise<StoredSubscription>;
  remove(id: string): Promise<void>;
  removeChannel(channelName: string): Promise<void>;
  /** Keeps the counts of these. */
  count(counts: readonly { id: string; messageCount: number; lastActivity: Date }[]): Promise<void>;
}
