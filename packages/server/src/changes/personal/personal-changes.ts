import { ProtocolError } from '@goforward/realtime-protocol';
import type { Channel } from '../../channels/channel.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import { InOrder } from '../../lib/in-order.js';
import type { Authorizer } from '../authorizer.js';
import type { ChangeFilter } from '../change-filter.js';
import type { RowContext, RowContexts } from '../row-context.js';
import type { RowSnapshot } from '../row-snapshot.js';
import type { Delivery } from '../streaming/delivery.js';
import type { ChangeCounts } from '../subscriptions/change-counts.js';
import type { SubscriptionPreparation } from '../subscriptions/subscription-preparation.js';
import type { PersonalSubscriptions } from './personal-subscriptions.js';

import type { SnapshotReader, TableSnapshot } from './snapshot-reader.js';

export interface PersonalChangesParts {
  readonly subscriptions: PersonalSubscriptions;
  readonly preparation: SubscriptionPreparation;
  readonly counts: ChangeCounts;
  readonly authorizer: Pick<Authorizer, 'facts' | 'rights'>;
  readonly contexts: RowContexts;
  readonly reader: SnapshotReader;
  readonly delivery: Delivery;
  readonly encoder: MessageEncoder;
  /** Keeps changes from a member for a while, and lets it go on where it was. */
  readonly stream: { hold(member: Subscriber, channel: Channel): void; goOn(member: Subscriber): void };
  readonly clock: Clock;
}

/** What a connection asks for. */
export interface PersonalRequest {
  readonly filter: ChangeFilter;
  /** Whether it wants the rows that there are before their changes. */
  readonly snapshot: boolean;
}

/** Nothing is kept until pages are taken: they are in memory whole. */
const NO_HOLD = { hold: () => undefined, release: () => undefined, taken: 0 };

/** Row changes for one connection alone, with the rows that there are before them where it wants these. */
export class PersonalChanges {
  readonly #parts: PersonalChangesParts;
  /** The snapshots of a connection come one after the other. */
  readonly #inOrder = new InOrder<Subscriber>();

  constructor(parts: PersonalChangesParts) {
    this.#parts = parts;
  }

  /** Answers the id of the subscription. What it brings comes after the answer. Throws DB_SUBSCRIPTION_FAILED. */
  subscribe(member: Subscriber, channel: Channel, request: PersonalRequest): Promise<string> {
    return this.#inOrder.run(member, () => this.#subscribe(member, channel, request));
  }

  /** Ends one subscription, or all; throws SUBSCRIPTION_NOT_FOUND. */
  unsubscribe(member: Subscriber, id: string | undefined): void {
    if (this.#parts.subscriptions.remove(member, id) || id === undefined) return;
    throw new ProtocolError('SUBSCRIPTION_NOT_FOUND', { error: `subscription ${id} not found` });
  }

  /** The member's claims are others: what it may no longer subscribe to ends, and it is told why. */
  async reauthorized(member: Subscriber): Promise<void> {
    const { subscriptions, preparation, contexts, delivery } = this.#parts;
    const { role } = contexts.of(member.identity);
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
        delivery.tell(member, 'error', { ...error.body, subscription_id: id }, NO_HOLD);
      }
    }
  }

  async #subscribe(member: Subscriber, channel: Channel, request: PersonalRequest): Promise<string> {
    const { subscriptions, contexts } = this.#parts;
    subscriptions.requireRoom(member);
    for (;;) {
      const id = await this.#subscribeAs(contexts.of(member.identity), member, channel, request);
      if (id !== undefined) return id;
    }
  }

  /** Answers undefined, and has done nothing, where the member's claims have become others meanwhile. */
  async #subscribeAs(
    context: RowContext,
    member: Subscriber,
    channel: Channel,
    { filter, snapshot }: PersonalRequest,
  ): Promise<string | undefined> {
    const { subscriptions, preparation, contexts } = this.#parts;
    const { tableOid, condition } = await preparation.forSubscriber(filter, {
      role: context.role,
      isServerAdmin: false,
    });
    if (tableOid === undefined) throw new Error('a prepared filter without a table');
    const id = subscriptions.newId();
    const begin = (seen?: RowSnapshot) => {
      if (contexts.of(member.identity).key !== context.key) return undefined;
      if (!channel.audience.has(member)) return id;
      subscriptions.add(member, {
        id,
        channelName: channel.name,
        filter,
        userId: member.userId,
        role: context.role,
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
      stream.hold(member, channel);
      const table = await authorizer.facts(tableOid);
      if (table === undefined)
        throw new ProtocolError('DB_SUBSCRIPTION_FAILED', { details: 'The table is no more' });
      const rights = await authorizer.rights(table, context.role);
      const { columns } = filter;
      const rows = await reader.read({
        table,
        rights,
        context,
        condition,
        ...(columns === undefined ? {} : { columns }),
      });
      begun = begin(rows.seen);
      // Behind the answer.
      if (begun !== undefined)
        setImmediate(() => {
          if (channel.audience.has(member)) this.#send(member, id, rows);
          stream.goOn(member);
        });
      return begun;
    } finally {
      if (begun === undefined) stream.goOn(member);
      expected();
    }
  }

  #send(member: Subscriber, id: string, { pages }: TableSnapshot): void {
    const { delivery } = this.#parts;
    for (const [n, rows] of pages.entries()) {
      delivery.tellRows(member, { subscription_id: id, more: n < pages.length - 1 }, rows, NO_HOLD);
    }
  }
}
