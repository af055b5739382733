import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Delivery } from '../delivery/delivery.js';
import type { MemberFeeds } from '../delivery/member-feeds.js';
import type { ChangeBatch, StreamEvent } from '../log/change-batch.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { Subscription } from '../subscriptions/subscription.js';

export interface EventAnnouncerParts {
  readonly delivery: Pick<Delivery, 'systemMessage'>;
  readonly feeds: Pick<MemberFeeds, 'deliver'>;
  readonly personal: Pick<PersonalSubscriptions, 'owners'>;
  readonly subscriptions: { list(): readonly Subscription[] };
  readonly channel: (name: string) => Channel | undefined;
}

/** Sends events of the stream, such as `gap` and `database_down`, to the members that they concern. */
export class EventAnnouncer {
  readonly #parts: EventAnnouncerParts;

  constructor(parts: EventAnnouncerParts) {
    this.#parts = parts;
  }

  /** Sends the event to all members that subscribe to its tables (missing: to any table). */
  announce(batch: ChangeBatch, { event, payload, tables }: StreamEvent): void {
    const { delivery, feeds, personal } = this.#parts;
    const bytes = delivery.systemMessage(event, payload);
    const members = new Set<Subscriber>(personal.owners(tables));
    for (const channel of this.#subscribedChannels(tables)) {
      for (const member of channel.audience.members()) members.add(member);
    }
    for (const member of members) feeds.deliver(member, [bytes], batch);
  }

  #subscribedChannels(tables?: readonly number[]): ReadonlySet<Channel> {
    const { subscriptions, channel: find } = this.#parts;
    const channels = new Set<Channel>();
    for (const { channelName, tableOid } of subscriptions.list()) {
      if (tables !== undefined && (tableOid === undefined || !tables.includes(tableOid))) continue;
      const channel = find(channelName);
      if (channel !== undefined) channels.add(channel);
    }
    return channels;
  }
}
