import { ProtocolError } from '@goforward/realtime-protocol';
import type { Channel } from '../../channels/channel.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import type { Authorizer } from '../authorizer.js';
import type { ChangeFilter } from '../change-filter.js';
import type { RowContexts } from '../row-context.js';
import type { Delivery } from '../streaming/delivery.js';
import type { SubscriptionPreparation } from '../subscriptions/subscription-preparation.js';
import type { PersonalSubscriptions } from './personal-subscriptions.js';
import type { RowSnapshot } from './row-snapshot.js';
import type { SnapshotReader, TableSnapshot } from './snapshot-reader.js';

export interface PersonalChangesParts {
  readonly subscriptions: PersonalSubscriptions;
  readonly preparation: SubscriptionPreparation;
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
  /** What each connection waits for: its snapshots come one after the other. */
  readonly #last = new WeakMap<Subscriber, Promise<unknown>>();

  constructor(parts: PersonalChangesParts) {
    this.#parts = parts;
  }

  /** Answers the id of the subscription. What it brings comes after the answer. Throws DB_SUBSCRIPTION_FAILED. */
  subscribe(member: Subscriber, channel: Channel, request: PersonalRequest): Promise<string> {
    const before = this.#last.get(member) ?? Promise.resolve();
    const work = before.then(() => this.#subscribe(member, channel, request));
    this.#last.set(
      member,
      work.catch(() => undefined),
    );
    return work;
  }

  /** Ends one subscription, or all; throws SUBSCRIPTION_NOT_FOUND. */
  unsubscribe(member: Subscriber, id: string | undefined): void {
    if (this.#parts.subscriptions.remove(member, id) || id === undefined) return;
    throw new ProtocolError('SUBSCRIPTION_NOT_FOUND', { error: `subscription ${id} not found` });
  }

  async #subscribe(
    member: Subscriber,
    channel: Channel,
    { filter, snapshot }: PersonalRequest,
  ): Promise<string> {
    const { subscriptions, preparation, contexts } = this.#parts;
    subscriptions.requireRoom(member);
    const context = contexts.of(member.identity);
    const { tableOid, condition } = await preparation.forSubscriber(filter, {
      role: context.role,
      isServerAdmin: false,
    });
    if (tableOid === undefined) throw new Error('a prepared filter without a table');
    const id = subscriptions.newId();
    const begin = (seen?: RowSnapshot) => {
      if (!channel.audience.has(member)) return;
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
        messageCount: 0,
        lastActivity: null,
        ...(seen === undefined ? {} : { seen }),
      });
    };
    if (!snapshot) {
      begin();
      return id;
    }
    const { stream, authorizer, reader } = this.#parts;
    // From here on its changes are kept, and the member gets none, until the rows are there.
    const expected = subscriptions.expect(tableOid);
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
      begin(rows.seen);
      // Behind the answer.
      setImmediate(() => {
        if (channel.audience.has(member)) this.#send(member, id, rows);
        stream.goOn(member);
      });
    } catch (error) {
      stream.goOn(member);
      throw error;
    } finally {
      expected();
    }
    return id;
  }

  #send(member: Subscriber, id: string, { pages }: TableSnapshot): void {
    const { delivery } = this.#parts;
    for (const [n, rows] of pages.entries()) {
      delivery.tellRows(member, { subscription_id: id, more: n < pages.length - 1 }, rows, NO_HOLD);
    }
  }
}
