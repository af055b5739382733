import { ProtocolError } from '@goforward/realtime-protocol';
import type { Channel } from '../../channels/channel.js';
import type { MessageEncoder } from '../../channels/message-encoder.js';
import type { Subscriber } from '../../channels/subscriber.js';
import type { WallClock } from '../../lib/clock.js';
import type { Delivery } from '../delivery/delivery.js';
import type { ChangeFilter } from '../model/change-filter.js';
import type { RowSnapshot } from '../model/row-snapshot.js';
import type { Viewer, Viewers } from '../model/viewer.js';
import type { ChangeCounts } from '../subscriptions/change-counts.js';
import type { PersonalSubscriptions } from '../subscriptions/personal-subscriptions.js';
import type { CheckedSubscriber, SubscriptionCheck } from '../subscriptions/subscription-check.js';
import type { Authorizer, Condition } from '../visibility/authorizer.js';
import type { StoredPages } from './snapshot-pages.js';
import type { SnapshotQuery, SnapshotReader, TableSnapshot } from './snapshot-reader.js';
import type { SnapshotSender } from './snapshot-sender.js';

export interface PersonalChangesParts {
  readonly subscriptions: PersonalSubscriptions;
  readonly preparation: SubscriptionCheck;
  readonly counts: ChangeCounts;
  readonly authorizer: Pick<Authorizer, 'facts' | 'privileges'>;
  readonly viewers: Viewers;
  readonly reader: SnapshotReader;
  readonly sender: SnapshotSender;
  readonly delivery: Delivery;
  readonly encoder: MessageEncoder;
  /** Pauses the changes of a member, and resumes them where it was. */
  readonly stream: { pause(member: Subscriber, channel: Channel): void; resume(member: Subscriber): void };
  readonly wallClock: WallClock;
}

/** A request for a personal subscription. */
export interface PersonalRequest {
  readonly filter: ChangeFilter;
  /** Whether to send the rows that exist now before their changes. */
  readonly snapshot: boolean;
}

/** Errors retain no batch. */
const NOT_RETAINED = { retain: () => undefined, release: () => undefined, received: 0 };

/**
 * Manages personal subscriptions: row changes for a single connection, with a snapshot of the rows on
 * request.
 */
export class PersonalChanges {
  readonly #parts: PersonalChangesParts;

  constructor(parts: PersonalChangesParts) {
    this.#parts = parts;
  }

  /**
   * Returns the id of the new subscription. Its rows and changes are sent after the reply. The caller waits for the end
   * before it calls again for the same member, so that snapshots do not interleave. Throws DB_SUBSCRIPTION_FAILED, or the
   * reason of `signal` when that aborts.
   */
  async subscribe(
    member: Subscriber,
    channel: Channel,
    request: PersonalRequest,
    signal: AbortSignal,
  ): Promise<string> {
    const { subscriptions, viewers } = this.#parts;
    subscriptions.requireRoom(member);
    for (;;) {
      signal.throwIfAborted();
      const id = await this.#subscribeAs(viewers.of(member.identity), member, channel, request, signal);
      if (id !== undefined) return id;
    }
  }

  /** Ends one subscription, or all if `id` is undefined. Throws SUBSCRIPTION_NOT_FOUND. */
  unsubscribe(member: Subscriber, id: string | undefined): void {
    if (this.#parts.subscriptions.remove(member, id) || id === undefined) return;
    throw new ProtocolError('SUBSCRIPTION_NOT_FOUND', { error: `subscription ${id} not found` });
  }

  /**
   * Checks the subscriptions of a member again after its claims have changed. A subscription that its new
   * database role is not allowed to have ends, and the member gets an `error` with the reason.
   */
  async reauthorized(member: Subscriber, signal: AbortSignal): Promise<void> {
    const { subscriptions, preparation, viewers, delivery } = this.#parts;
    const { role } = viewers.of(member.identity);
    for (const subscription of subscriptions.of(member)) {
      const { id, filter } = subscription;
      if (subscription.role === role) continue;
      try {
        const { tableOid, condition } = await preparation.checkNew(
          filter,
          subscriberOf(member, role, signal),
        );
        subscriptions.replace(member, { ...subscription, role, tableOid, condition });
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        if (!subscriptions.remove(member, id)) continue;
        delivery.send(member, 'error', { ...error.body, subscription_id: id }, NOT_RETAINED);
      }
    }
  }

  /**
   * Returns undefined, without effect, if the member's claims have changed meanwhile: the caller tries again.
   */
  async #subscribeAs(
    viewer: Viewer,
    member: Subscriber,
    channel: Channel,
    { filter, snapshot }: PersonalRequest,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const { subscriptions, preparation, viewers } = this.#parts;
    const { tableOid, condition } = await preparation.checkNew(
      filter,
      subscriberOf(member, viewer.role, signal),
    );
    signal.throwIfAborted();
    if (tableOid === undefined) throw new Error('A prepared subscription has no table');
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
        createdAt: new Date(this.#parts.wallClock.epochMs()),
        tableOid,
        condition,
        active: true,
        counts: this.#parts.counts.begin(tableOid),
        messageCount: 0,
        lastActivity: null,
        ...(seen === undefined ? {} : { snapshot: seen }),
      });
      return id;
    };
    if (!snapshot) return begin();
    const { sender } = this.#parts;
    await sender.whenIdle(member, signal);
    const waiting = new SnapshotPause(member, channel, this.#parts);
    const prepare = () => {
      waiting.begin(tableOid);
      return this.#query(viewer, tableOid, filter, condition);
    };
    let rows: TableSnapshot | undefined;
    let begun: string | undefined;
    try {
      rows = await this.#parts.reader.read(prepare, { user: member.identity.limitedAs, signal });
      begun = begin(rows.seen);
    } finally {
      if (begun === undefined) {
        rows?.pages.close();
        waiting.end();
      }
    }
    if (begun !== undefined) this.#send(member, begun, rows.pages, waiting);
    return begun;
  }

  /** Returns the query of the rows of a table that the viewer sees and the condition selects. */
  async #query(
    viewer: Viewer,
    tableOid: number,
    { columns }: ChangeFilter,
    condition: Condition | null,
  ): Promise<SnapshotQuery> {
    const { authorizer } = this.#parts;
    const table = await authorizer.facts(tableOid);
    if (table === undefined)
      throw new ProtocolError('DB_SUBSCRIPTION_FAILED', { details: 'The table does not exist' });
    const privileges = await authorizer.privileges(table, viewer.role);
    return { table, privileges, viewer, condition, ...(columns === undefined ? {} : { columns }) };
  }

  /** Sends the rows of a new subscription behind the reply. What the member is not to have any more is not sent. */
  #send(member: Subscriber, id: string, pages: StoredPages, waiting: SnapshotPause): void {
    const { subscriptions, delivery, sender } = this.#parts;
    sender.send(member, {
      subscriptionId: id,
      pages,
      isWanted: () => subscriptions.has(member, id),
      ended: (error) => {
        if (error !== undefined && subscriptions.remove(member, id))
          delivery.send(member, 'error', { ...error.body, subscription_id: id }, NOT_RETAINED);
        waiting.end();
      },
    });
  }
}

/** Keeps the changes of a member and of the table that it subscribes to, from before its rows are read until they are sent. */
class SnapshotPause {
  readonly #member: Subscriber;
  readonly #channel: Channel;
  readonly #parts: Pick<PersonalChangesParts, 'stream' | 'subscriptions'>;
  #releaseTable: (() => void) | undefined;

  constructor(
    member: Subscriber,
    channel: Channel,
    parts: Pick<PersonalChangesParts, 'stream' | 'subscriptions'>,
  ) {
    this.#member = member;
    this.#channel = channel;
    this.#parts = parts;
  }

  /** Throws DATABASE_UNAVAILABLE while no change epoch is known. */
  begin(tableOid: number): void {
    const { stream, subscriptions } = this.#parts;
    stream.pause(this.#member, this.#channel);
    this.#releaseTable = subscriptions.retainTable(tableOid);
  }

  end(): void {
    if (this.#releaseTable === undefined) return;
    this.#releaseTable();
    this.#releaseTable = undefined;
    this.#parts.stream.resume(this.#member);
  }
}

/** The member as the one who asks for a subscription of its own. */
function subscriberOf(member: Subscriber, role: string, signal: AbortSignal): CheckedSubscriber {
  return { role, isServerAdmin: false, user: member.identity.limitedAs, signal };
}
