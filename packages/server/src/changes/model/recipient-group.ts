import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Viewer } from './viewer.js';

/** The members of one channel with one context: they get the same. One with subscriptions of its own sits alone. */
export interface RecipientGroup {
  /** Among those of the channel. */
  readonly key: string;
  readonly channel: Channel;
  readonly viewer: Viewer;
  readonly owner: Subscriber | undefined;
  readonly members: Set<Subscriber>;
}

/** Whom a subscription is for: a channel by its name, or one connection. */
export type SubscriptionTarget = string | Subscriber;

/** One context, and its seats that may hear of a table. */
export interface TableViewer {
  readonly viewer: Viewer;
  readonly groups: Set<RecipientGroup>;
}
