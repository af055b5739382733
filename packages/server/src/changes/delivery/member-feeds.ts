import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';
import { ReadingPace } from '../../lib/reading-pace.js';

/** A member gets more while its outbox holds fewer bytes than this: enough to keep the network busy. */
const OUTBOX_TARGET_BYTES = 64 * 1024;
/** Beyond this many bytes a member is behind even though nothing waits for room in its outbox: a message is large. */
const OUTBOX_LIMIT_BYTES = 2 * OUTBOX_TARGET_BYTES;
/**
 * A member that is this far behind the minimum rate of reading is too slow, in ms: one that reads nothing, after this
 * time. The shorter time counts while reading from PostgreSQL is paused.
 */
const MAX_BEHIND_MS = 30_000;
const MAX_BEHIND_BLOCKED_MS = 5_000;

/** A batch that stays in memory until the last member has received it. */
export interface RetainedBatch {
  retain(): void;
  release(): void;
  /** How many members have received all of it. */
  received: number;
}

/** The chunks that wait for one member, in order, after those that fill its outbox, and how fast it reads. */
interface Feed {
  readonly queue: { readonly chunks: readonly Buffer[]; next: number; readonly batch: RetainedBatch }[];
  readonly pace: ReadingPace;
}

/** The state of the change log that decides which slow members are closed. */
export interface Backpressure {
  /** The change log is full of changes that members have not received: reading from PostgreSQL is paused. */
  readonly isBlocked: boolean;
  /** Some member has received everything: members that are behind delay the others. */
  readonly hasCaughtUpMember: boolean;
  /** The oldest batch that some member has not received. */
  readonly oldest: RetainedBatch | undefined;
}

/**
 * Delivers batches to members no faster than their outboxes drain. A waiting member costs references to bytes
 * that all members share. A batch stays in the change log until the last member has received it.
 */
export class MemberFeeds {
  readonly #clock: Clock;
  readonly #feeds = new Map<Subscriber, Feed>();
  /** Resolve `whenRoom`: with false for a member that has left. */
  readonly #roomSeekers = new Map<Subscriber, (hasRoom: boolean) => void>();
  #onCaughtUp: (member: Subscriber) => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How many members have not received everything. */
  get behindCount(): number {
    return this.#feeds.size;
  }

  /** Whether messages wait for this member. */
  isBehind(member: Subscriber): boolean {
    return this.#feeds.has(member);
  }

  /** Calls back whenever a member that was behind has received everything. */
  onCaughtUp(callback: (member: Subscriber) => void): void {
    this.#onCaughtUp = callback;
  }

  /** Delivers chunks of a batch to a member: now as far as its outbox has room, the rest as it drains. */
  deliver(member: Subscriber, chunks: readonly Buffer[], batch: RetainedBatch): void {
    const feed = this.#feeds.get(member);
    if (feed !== undefined) {
      batch.retain();
      feed.queue.push({ chunks, next: 0, batch });
      return;
    }
    let next = 0;
    for (const chunk of chunks) {
      if (member.bufferedBytes >= OUTBOX_TARGET_BYTES) break;
      member.pushPaced(chunk);
      next += 1;
    }
    if (next < chunks.length) {
      batch.retain();
      this.#await(member, [{ chunks, next, batch }]);
      return;
    }
    batch.received += 1;
    if (member.bufferedBytes > OUTBOX_LIMIT_BYTES) this.#await(member, []);
  }

  /**
   * Waits until the member has received everything and its outbox has room, for content that is read only then. False: the
   * member has left. One caller per member at a time.
   */
  async whenRoom(member: Subscriber): Promise<boolean> {
    const feed = this.#feeds.get(member);
    if (feed === undefined && member.bufferedBytes < OUTBOX_TARGET_BYTES) return true;
    const hasRoom = new Promise<boolean>((resolve) => this.#roomSeekers.set(member, resolve));
    if (feed === undefined) this.#await(member, []);
    return hasRoom;
  }

  /** Discards what waits for a member that has left. */
  remove(member: Subscriber): void {
    this.#foundRoom(member, false);
    const feed = this.#feeds.get(member);
    if (feed === undefined) return;
    this.#feeds.delete(member);
    for (const { batch } of feed.queue) batch.release();
  }

  /**
   * Closes members that read too slowly. When the change log is full, also closes members that still need its
   * oldest batch while others have received everything.
   */
  closeSlowMembers({ isBlocked, hasCaughtUpMember, oldest }: Backpressure): void {
    const now = this.#clock();
    const maxBehindMs = isBlocked ? MAX_BEHIND_BLOCKED_MS : MAX_BEHIND_MS;
    for (const [member, feed] of this.#feeds) {
      const isTooSlow = feed.pace.behindMs(now, member.drainedBytes) >= maxBehindMs;
      const isBlocking =
        isBlocked && hasCaughtUpMember && oldest !== undefined && feed.queue[0]?.batch === oldest;
      if (isTooSlow || isBlocking) member.closeSlowConsumer();
    }
  }

  #await(member: Subscriber, queue: Feed['queue']): void {
    const feed = { queue, pace: new ReadingPace(this.#clock(), member.drainedBytes) };
    this.#feeds.set(member, feed);
    member.whenDrained(() => this.#drained(member, feed));
  }

  #foundRoom(member: Subscriber, hasRoom: boolean): void {
    const found = this.#roomSeekers.get(member);
    this.#roomSeekers.delete(member);
    found?.(hasRoom);
  }

  #drained(member: Subscriber, feed: Feed): void {
    if (this.#feeds.get(member) !== feed) return;
    for (let item = feed.queue[0]; item !== undefined; item = feed.queue[0]) {
      for (; item.next < item.chunks.length; item.next++) {
        if (member.bufferedBytes >= OUTBOX_TARGET_BYTES) {
          member.whenDrained(() => this.#drained(member, feed));
          return;
        }
        const chunk = item.chunks[item.next];
        if (chunk !== undefined) member.pushPaced(chunk);
      }
      feed.queue.shift();
      item.batch.received += 1;
      item.batch.release();
    }
    // A large message still waits for a slow member: its feed lasts until that has drained.
    if (member.bufferedBytes > OUTBOX_LIMIT_BYTES) {
      member.whenDrained(() => this.#drained(member, feed));
      return;
    }
    this.#feeds.delete(member);
    this.#foundRoom(member, true);
    this.#onCaughtUp(member);
  }
}
