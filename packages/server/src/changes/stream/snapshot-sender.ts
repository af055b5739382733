import { setImmediate as nextTick } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import type { Log } from '../../lib/log.js';
import { ReadingPace } from '../../lib/reading-pace.js';
import type { Delivery } from '../delivery/delivery.js';
import type { MemberFeeds } from '../delivery/member-feeds.js';
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
  readonly pace: ReadingPace;
  readonly done: Promise<void>;
}

/** A member that is this far behind the minimum rate of reading while pages wait for it is too slow, in ms. */
const MAX_BEHIND_MS = 10_000;
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
    const pace = new ReadingPace(this.#parts.clock(), member.drainedBytes);
    const done = nextTick().then(() => this.#run(member, snapshot));
    this.#sending.set(member, { pace, done });
  }

  /** Waits until no snapshot is being sent to the member. Rejects with the reason of `signal` when that aborts. */
  async whenIdle(member: Subscriber, signal: AbortSignal): Promise<void> {
    await this.#sending.get(member)?.done;
    signal.throwIfAborted();
  }

  /** Closes members for which pages wait, and that read too slowly. To be called about once per second. */
  closeSlowReaders(): void {
    const now = this.#parts.clock();
    for (const [member, { pace }] of this.#sending)
      if (pace.behindMs(now, member.drainedBytes) >= MAX_BEHIND_MS) member.closeSlowConsumer();
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
      delivery.sendRows(member, { subscription_id: subscriptionId, more }, rows, NOT_RETAINED);
    }
  }
}
