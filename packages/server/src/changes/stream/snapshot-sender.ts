import { setImmediate as nextTick } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import type { Delivery } from '../delivery/delivery.js';
import type { MemberFeeds } from '../delivery/member-feeds.js';
import { ReadingRate } from '../delivery/reading-rate.js';
import type { StoredPages } from './snapshot-pages.js';

export interface SnapshotSenderParts {
  readonly feeds: Pick<MemberFeeds, 'whenRoom'>;
  readonly delivery: Pick<Delivery, 'sendRows'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** A snapshot on its way to a member. */
export interface OutgoingSnapshot {
  readonly subscriptionId: string;
  readonly pages: StoredPages;
  /** False: the member has left or the subscription has ended, and no more pages are sent. */
  readonly isWanted: () => boolean;
  /** Called once at the end, whatever it was. `error`: the pages cannot be read. */
  readonly ended: (error: ProtocolError | undefined) => void;
}

interface Sending {
  readonly rate: ReadingRate;
  /** Bytes of the pages that were delivered. */
  sent: number;
  readonly done: Promise<void>;
}

/** Pages retain no batch: each is read when the member has room for it. */
const NOT_RETAINED = { retain: () => undefined, release: () => undefined, received: 0 };

/**
 * Sends the pages of snapshots: to each member one snapshot at a time, and the next page when the member has taken the one
 * before. Closes members that read too slowly.
 */
export class SnapshotSender {
  readonly #parts: SnapshotSenderParts;
  readonly #sending = new Map<Subscriber, Sending>();

  constructor(parts: SnapshotSenderParts) {
    this.#parts = parts;
  }

  /** Sends a snapshot to a member, to which no other one is being sent. The first page follows what is sent in this tick. */
  send(member: Subscriber, snapshot: OutgoingSnapshot): void {
    const rate = new ReadingRate(this.#parts.clock());
    const sending: Sending = { rate, sent: 0, done: nextTick().then(() => this.#run(member, snapshot)) };
    this.#sending.set(member, sending);
  }

  /** Waits until no snapshot is being sent to the member. Rejects with the reason of `signal` when that aborts. */
  async whenIdle(member: Subscriber, signal: AbortSignal): Promise<void> {
    await this.#sending.get(member)?.done;
    signal.throwIfAborted();
  }

  /** Closes members for which pages wait, and that read too slowly. To be called about once per second. */
  closeSlowReaders(): void {
    const now = this.#parts.clock();
    for (const [member, { rate, sent }] of this.#sending) {
      if (rate.isTooSlow(now, sent - Math.min(sent, member.bufferedBytes))) member.closeSlowConsumer();
    }
  }

  async #run(member: Subscriber, snapshot: OutgoingSnapshot): Promise<void> {
    let failure: ProtocolError | undefined;
    try {
      await this.#sendPages(member, snapshot);
    } catch (error) {
      if (!(error instanceof ProtocolError)) this.#parts.log.error({ err: error }, 'A snapshot was not sent');
      failure = error instanceof ProtocolError ? error : new ProtocolError('INTERNAL', { cause: error });
    }
    snapshot.pages.close();
    this.#sending.delete(member);
    snapshot.ended(failure);
  }

  async #sendPages(member: Subscriber, snapshot: OutgoingSnapshot): Promise<void> {
    const { subscriptionId, pages, isWanted } = snapshot;
    const { feeds, delivery } = this.#parts;
    for (let n = 0; n < pages.count; n++) {
      if (!isWanted() || !(await feeds.whenRoom(member))) return;
      const rows = await pages.read(n);
      if (!isWanted()) return;
      const more = n < pages.count - 1;
      const bytes = delivery.sendRows(member, { subscription_id: subscriptionId, more }, rows, NOT_RETAINED);
      const sending = this.#sending.get(member);
      if (sending !== undefined) sending.sent += bytes;
    }
  }
}
