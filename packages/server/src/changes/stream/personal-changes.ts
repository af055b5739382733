import { ProtocolError } from '@goforward/realtime-protocol';
import type { Channel } from '../../channels/channel.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import { SerialExecutor } from '../../lib/serial-executor.js';
import type { Delivery } from '../delivery/delivery.js';
import type { ChangeFilter } from '../model/change-filter.js';
import type { RowSnapshot } from '../model/row-snapshot.js';
import type { Viewer, Viewers } from '../model/viewer.js';
import type { ChangeCounts } from '../subscriptions/change-counts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { SubscriptionPreparation } from '../subscriptions/subscription-preparation.js';
import type { Authorizer } from '../visibility/authorizer.js';

import type { SnapshotReader, TableSnapshot } from './snapshot-reader.js';

export interface PersonalChangesParts {
  readonly subscriptions: PersonalSubscriptions;
  readonly preparation: SubscriptionPreparation;
  readonly counts: ChangeCounts;
  readonly authorizer: Pick<Authorizer, 'facts' | 'privileges'>;
  readonly viewers: Viewers;
  readonly reader: SnapshotReader;
  readonly delivery: Delivery;
  readonly encoder: MessageEncoder;
  /** Keeps changes from a member for a while, and lets it go on where it was. */
  readonly stream: { pause(member: Subscriber, channel: Channel): void; resume(member: Subscriber): void };
  readonly clock: Clock;
}

/** What a connection asks for. */
export interface PersonalRequest {
  readonly filter: ChangeFilter;
  /** Whether it wants the rows that there are before their changes. */
  readonly snapshot: boolean;
}

/** Nothing is kept until pages are taken: they are in memory whole. */
const NOT_RETAINED = { retain: () => undefined, release: () => undefined, received: 0 };

/** Row changes for one connection alone, with the rows that there are before them where it wants these. */
export class PersonalChanges {
  readonly #parts: PersonalChangesParts;
  /** The snapshots of a connection come one after the other. */
  readonly #serial = new SerialExecutor<Subscriber>();

  constructor(parts: PersonalChangesParts) {
    this.#parts = parts;
  }

  /** Answers the id of the subscription. What it brings comes after the answer. Throws DB_SUBSCRIPTION_FAILED. */
  subscribe(member: Subscriber, channel: Channel, request: PersonalRequest): Promise<string> {
    return this.#serial.run(member, () => this.#subscribe(member, channel, request));
  }

  /** Ends one subscription, or all; throws SUBSCRIPTION_NOT_FOUND. */
  unsubscribe(member: Subscriber, id: string | undefined): void {
    if (this.#parts.subscriptions.remove(member, id) || id === undefined) return;
    throw new ProtocolError('SUBSCRIPTION_NOT_FOUND', { error: `subscription ${id} not found` });
  }

  /** The member's claims are others: what it may no longer subscribe to ends, and it is told why. */
  async reauthorized(member: Subscriber): Promise<void> {
    const { subscriptions, preparation, viewers, delivery } = this.#parts;
    const { role } = viewers.of(member.identity);
    for (const subscription of subscriptions.of(member)) {
      const { id, filter } = subscription;
      if (subscription.role === role) continue;
      try {
        const { tableOid, condition } = await preparation.forSubscriber(filter, {
          role,
          isServerAdmin: false,
        });
        subscriptions.replace(member, { ...subscription, role, tableOid, condition });
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        if (!subscriptions.remove(member, id)) continue;
        delivery.send(member, 'error', { ...error.body, subscription_id: id }, NOT_RETAINED);
      }
    }
  }

  async #subscribe(member: Subscriber, channel: Channel, request: PersonalRequest): Promise<string> {
    const { subscriptions, viewers } = this.#parts;
    subscriptions.requireRoom(member);
    for (;;) {
      const id = await this.#subscribeAs(viewers.of(member.identity), member, channel, request);
      if (id !== undefined) return id;
    }
  }

  /** Answers undefined, and has done nothing, where the member's claims have become others meanwhile. */
  async #subscribeAs(
    viewer: Viewer,
    member: Subscriber,
    channel: Channel,
    { filter, snapshot }: PersonalRequest,
  ): Promise<string | undefined> {
    const { subscriptions, preparation, viewers } = this.#parts;
    const { tableOid, condition } = await preparation.forSubscriber(filter, {
      role: viewer.role,
      isServerAdmin: false,
    });
    if (tableOid === undefined) throw new Error('a prepared filter without a table');
    const id = subscriptions.newId();
    const begin = (seen?: RowSnapshot) => {
      if (viewers.of(member.identity).key !== viewer.key) return undefined;
      if (!channel.audience.has(member)) return id;
      subscriptions.add(member, {
        id,
        channelName: channel.name,
        filter,
        userId: member.userId,
        role: viewer.role,
        createdAt: new Date(this.#parts.clock()),
        tableOid,
        condition,
        active: true,
        counts: this.#parts.counts.begin(tableOid),
        messageCount: 0,
        lastActivity: null,
        ...(seen === undefined ? {} : { seen }),
      });
      return id;
    };
    if (!snapshot) return begin();
    const { stream, authorizer, reader } = this.#parts;
    // From here on its changes are kept, and the member gets none, until the rows are there.
    const expected = subscriptions.expect(tableOid);
    let begun: string | undefined;
    try {
      stream.pause(member, channel);
      const table = await authorizer.facts(tableOid);
      if (table === undefined)
        throw new ProtocolError('DB_SUBSCRIPTION_FAILED', { details: 'The table is no more' });
      const privileges = await authorizer.privileges(table, viewer.role);
      const { columns } = filter;
      const rows = await reader.read({
        table,
        privileges,
        viewer,
        condition,
        ...(columns === undefined ? {} : { columns }),
      });
      begun = begin(rows.seen);
      // Behind the answer.
      if (begun !== undefined)
        setImmediate(() => {
          if (channel.audience.has(member)) this.#send(member, id, rows);
          stream.resume(member);
        });
      return begun;
    } finally {
      if (begun === undefined) stream.resume(member);
      expected();
    }
  }

  #send(member: Subscriber, id: string, { pages }: TableSnapshot): void {
    const { delivery } = this.#parts;
    for (const [n, rows] of pages.entries()) {
      delivery.sendRows(member, { subscription_id: id, more: n < pages.length - 1 }, rows, NOT_RETAINED);
    }
  }
}
