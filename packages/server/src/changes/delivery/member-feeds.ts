import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';

/** A member is handed more while less than this waits for it, in bytes: enough to keep the network busy. */
const ROOM_BYTES = 64 * 1024;
/** Without any progress for so long a member is too slow, in ms; sooner while PostgreSQL waits for it. */
const STALL_TIMEOUT_MS = 30_000;
const BLOCKED_STALL_TIMEOUT_MS = 5_000;

/** What is kept until the last member has taken it. */
export interface RetainedBatch {
  retain(): void;
  release(): void;
  /** Members that have taken it whole. */
  received: number;
}

/** What waits for one member, in order, and since when it made no progress. */
interface Feed {
  readonly queue: { readonly chunks: readonly Buffer[]; next: number; readonly retain: RetainedBatch }[];
  progressAt: number;
}

/** What decides about those who stay behind. */
export interface Backpressure {
  /** The log is full of what members have not taken: PostgreSQL is not read on. */
  readonly isBlocked: boolean;
  /** Somebody else has everything: whoever stays behind holds others up. */
  readonly hasCaughtUpMember: boolean;
  readonly oldest: RetainedBatch | undefined;
}

/**
 * Hands slices to members no faster than their outboxes drain. What waits for a member are references to bytes that
 * all members share; the slice stays in the log until the last one has taken it.
 */
export class MemberFeeds {
  readonly #clock: Clock;
  readonly #feeds = new Map<Subscriber, Feed>();
  #onCaughtUp: (member: Subscriber) => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Members that have not taken everything. */
  get behind(): number {
    return this.#feeds.size;
  }

  /** Whether something waits for this member. */
  isBehind(member: Subscriber): boolean {
    return this.#feeds.has(member);
  }

  /** Calls back whenever a member that was behind has taken everything. */
  onCaughtUp(listener: (member: Subscriber) => void): void {
    this.#onCaughtUp = listener;
  }

  /** Hands `pieces` of a slice to a member, now as far as it has room, and the rest as it drains. */
  deliver(member: Subscriber, chunks: readonly Buffer[], retain: RetainedBatch): void {
    const feed = this.#feeds.get(member);
    if (feed !== undefined) {
      retain.retain();
      feed.queue.push({ chunks, next: 0, retain });
      return;
    }
    let next = 0;
    for (const chunk of chunks) {
      if (member.waiting >= ROOM_BYTES) break;
      member.pushPaced(chunk);
      next += 1;
    }
    if (next === chunks.length) {
      retain.received += 1;
      return;
    }
    retain.retain();
    const newFeed: Feed = { queue: [{ chunks, next, retain }], progressAt: this.#clock() };
    this.#feeds.set(member, newFeed);
    member.whenDrained(() => this.#drained(member, newFeed));
  }

  /** The member is gone: nothing waits for it any more. */
  remove(member: Subscriber): void {
    const feed = this.#feeds.get(member);
    if (feed === undefined) return;
    this.#feeds.delete(member);
    for (const { retain } of feed.queue) retain.release();
  }

  /** Cuts off whoever makes no progress, and, when the log is full, whoever holds its oldest slice while others have all. */
  cutOffSlow({ isBlocked, hasCaughtUpMember, oldest }: Backpressure): void {
    const now = this.#clock();
    const timeout = isBlocked ? BLOCKED_STALL_TIMEOUT_MS : STALL_TIMEOUT_MS;
    for (const [member, feed] of this.#feeds) {
      const isStalled = now - feed.progressAt >= timeout;
      const isBlocking =
        isBlocked && hasCaughtUpMember && oldest !== undefined && feed.queue[0]?.retain === oldest;
      if (isStalled || isBlocking) member.tooSlow();
    }
  }

  #drained(member: Subscriber, feed: Feed): void {
    if (this.#feeds.get(member) !== feed) return;
    feed.progressAt = this.#clock();
    for (let item = feed.queue[0]; item !== undefined; item = feed.queue[0]) {
      for (; item.next < item.chunks.length; item.next++) {
        if (member.waiting >= ROOM_BYTES) {
          member.whenDrained(() => this.#drained(member, feed));
          return;
        }
        const chunk = item.chunks[item.next];
        if (chunk !== undefined) member.pushPaced(chunk);
      }
      feed.queue.shift();
      item.retain.received += 1;
      item.retain.release();
    }
    this.#feeds.delete(member);
    this.#onCaughtUp(member);
  }
}
