import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Viewer } from './viewer.js';

/**
 * Groups the members of one channel that have the same viewer and therefore receive the same messages. A
 * connection with personal subscriptions has a group of its own.
 */
export interface RecipientGroup {
  /** Unique within the channel. */
  readonly key: string;
  readonly channel: Channel;
  readonly viewer: Viewer;
  /** The connection with personal subscriptions; undefined for a shared group. */
  readonly owner: Subscriber | undefined;
  readonly members: Set<Subscriber>;
}

/** The receiver of a subscription's changes: a channel, by its name, or one connection. */
export type SubscriptionTarget = string | Subscriber;

/** One viewer with its recipient groups that are subscribed to a table. */
export interface TableViewer {
  readonly viewer: Viewer;
  readonly groups: Set<RecipientGroup>;
}
