import type { Subscriber } from '../../channels/subscriber.js';
import type { Clock } from '../../lib/clock.js';

/** A member is handed more while less than this waits for it, in bytes: enough to keep the network busy. */
const ROOM_BYTES = 64 * 1024;
/** Without any progress for so long a member is too slow, in ms; sooner while PostgreSQL waits for it. */
const PATIENCE_MS = 30_000;
const PATIENCE_WHEN_HELD_UP_MS = 5_000;

/** What is kept until the last member has taken it. */
export interface Hold {
  hold(): void;
  release(): void;
  /** Members that have taken it whole. */
  taken: number;
}

/** What waits for one member, in order, and since when it made no progress. */
interface Feed {
  readonly queue: { readonly pieces: readonly Buffer[]; next: number; readonly hold: Hold }[];
  progressAt: number;
}

/** What decides about those who stay behind. */
export interface Pressure {
  /** The log is full of what members have not taken: PostgreSQL is not read on. */
  readonly isHeldUp: boolean;
  /** Somebody else has everything: whoever stays behind holds others up. */
  readonly isSomebodyCaughtUp: boolean;
  readonly oldest: Hold | undefined;
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
  deliver(member: Subscriber, pieces: readonly Buffer[], hold: Hold): void {
    const feed = this.#feeds.get(member);
    if (feed !== undefined) {
      hold.hold();
      feed.queue.push({ pieces, next: 0, hold });
      return;
    }
    let next = 0;
    for (const piece of pieces) {
      if (member.waiting >= ROOM_BYTES) break;
      member.pushPaced(piece);
      next += 1;
    }
    if (next === pieces.length) {
      hold.taken += 1;
      return;
    }
    hold.hold();
    const late: Feed = { queue: [{ pieces, next, hold }], progressAt: this.#clock() };
    this.#feeds.set(member, late);
    member.whenDrained(() => this.#drained(member, late));
  }

  /** The member is gone: nothing waits for it any more. */
  left(member: Subscriber): void {
    const feed = this.#feeds.get(member);
    if (feed === undefined) return;
    this.#feeds.delete(member);
    for (const { hold } of feed.queue) hold.release();
  }

  /** Cuts off whoever makes no progress, and, when the log is full, whoever holds its oldest slice while others have all. */
  cutOffSlow({ isHeldUp, isSomebodyCaughtUp, oldest }: Pressure): void {
    const now = this.#clock();
    const patience = isHeldUp ? PATIENCE_WHEN_HELD_UP_MS : PATIENCE_MS;
    for (const [member, feed] of this.#feeds) {
      const isStuck = now - feed.progressAt >= patience;
      const holdsUp =
        isHeldUp && isSomebodyCaughtUp && oldest !== undefined && feed.queue[0]?.hold === oldest;
      if (isStuck || holdsUp) member.tooSlow();
    }
  }

  #drained(member: Subscriber, feed: Feed): void {
    if (this.#feeds.get(member) !== feed) return;
    feed.progressAt = this.#clock();
    for (let item = feed.queue[0]; item !== undefined; item = feed.queue[0]) {
      for (; item.next < item.pieces.length; item.next++) {
        if (member.waiting >= ROOM_BYTES) {
          member.whenDrained(() => this.#drained(member, feed));
          return;
        }
        const piece = item.pieces[item.next];
        if (piece !== undefined) member.pushPaced(piece);
      }
      feed.queue.shift();
      item.hold.taken += 1;
      item.hold.release();
    }
    this.#feeds.delete(member);
    this.#onCaughtUp(member);
  }
}
