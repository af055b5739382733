import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { RowContext } from '../row-context.js';

/** The members of one channel with one context: they get the same. One with subscriptions of its own sits alone. */
export interface Seat {
  /** Among those of the channel. */
  readonly key: string;
  readonly channel: Channel;
  readonly context: RowContext;
  readonly owner: Subscriber | undefined;
  readonly members: Set<Subscriber>;
}

/** Whom a subscription is for: a channel by its name, or one connection. */
export type Place = string | Subscriber;

/** One context, and its seats that may hear of a table. */
export interface Listener {
  readonly context: RowContext;
  readonly seats: Set<Seat>;
}
