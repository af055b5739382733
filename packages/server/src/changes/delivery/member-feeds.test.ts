import { beforeEach, describe, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../../tests/support/fake-subscriber.js';
import type { Subscriber } from '../../channels/subscriber.js';
import { ChangeBatch } from '../log/change-batch.js';
import { type Backpressure, MemberFeeds } from './member-feeds.js';

let now: number;
let feeds: MemberFeeds;

beforeEach(() => {
  now = 1_000;
  feeds = new MemberFeeds(() => now);
});

/** A member whose network takes bytes only when `drain` is called. */
class Reader {
  readonly got: string[] = [];
  isCutOff = false;
  #waiting = 0;
  #drainedBytes = 0;
  #drained: (() => void) | undefined;
  readonly member: Subscriber;

  constructor() {
    const waiting = () => this.#waiting;
    const drainedBytes = () => this.#drainedBytes;
    this.member = {
      ...fakeSubscriber(),
      get bufferedBytes() {
        return waiting();
      },
      get drainedBytes() {
        return drainedBytes();
      },
      pushPaced: (bytes) => {
        this.got.push(bytes.subarray(0, 1).toString());
        this.#waiting += bytes.length;
      },
      whenDrained: (callback) => {
        this.#drained = callback;
      },
      closeSlowConsumer: () => {
        this.isCutOff = true;
        feeds.remove(this.member);
      },
    };
  }

  /** Reads as much of what waits. */
  read(bytes: number): void {
    this.#waiting -= bytes;
    this.#drainedBytes += bytes;
  }

  drain(): void {
    this.read(this.#waiting);
    const callback = this.#drained;
    this.#drained = undefined;
    callback?.();
  }
}

const NO_BACKPRESSURE: Backpressure = { isBlocked: false, hasCaughtUpMember: false, oldest: undefined };

function batch(): ChangeBatch {
  return new ChangeBatch('e', {}, () => undefined);
}

const large = (letter: string) => Buffer.alloc(60_000, letter);

describe('a member that keeps up', () => {
  it('receives everything at once, and the batch is done', () => {
    const [reader, one] = [new Reader(), batch()];
    feeds.deliver(reader.member, [Buffer.from('a'), Buffer.from('b')], one);
    expect([reader.got, one.received, feeds.behindCount]).toEqual([['a', 'b'], 1, 0]);
    one.release();
    expect(one.isDone).toBe(true);
  });
});

describe('a member that falls behind', () => {
  it('receives more only as it drains, in the order of batches, and each batch is retained until then', () => {
    const reader = new Reader();
    const [one, two] = [batch(), batch()];
    feeds.deliver(reader.member, [large('a'), large('b'), large('c')], one);
    feeds.deliver(reader.member, [large('d')], two);
    one.release();
    two.release();
    expect([reader.got, one.isDone, feeds.behindCount]).toEqual([['a', 'b'], false, 1]);
    reader.drain();
    expect([reader.got, one.isDone, two.isDone]).toEqual([['a', 'b', 'c', 'd'], true, true]);
    expect(feeds.behindCount).toBe(0);
  });

  it('does not delay other members', () => {
    const [slow, fast, one] = [new Reader(), new Reader(), batch()];
    feeds.deliver(slow.member, [large('a'), large('b'), large('c')], one);
    feeds.deliver(fast.member, [Buffer.from('a')], one);
    expect(fast.got).toEqual(['a']);
  });

  it('releases its batches when it leaves', () => {
    const [reader, one] = [new Reader(), batch()];
    feeds.deliver(reader.member, [large('a'), large('b'), large('c')], one);
    one.release();
    feeds.remove(reader.member);
    expect([one.isDone, feeds.behindCount]).toEqual([true, 0]);
    reader.drain();
    expect(reader.got).toEqual(['a', 'b']);
  });
});

describe('a member is closed as too slow', () => {
  function behind(): Reader {
    const reader = new Reader();
    feeds.deliver(reader.member, [large('a'), large('b'), large('c'), large('d'), large('e')], batch());
    return reader;
  }

  it('after 30 seconds in which it reads nothing or less than 32 kB a second, but not at that rate', () => {
    const [stuck, trickling, slow] = [behind(), behind(), behind()];
    const cutOff = () => [stuck, trickling, slow].map(({ isCutOff }) => isCutOff);
    for (let second = 1; second <= 30; second++) {
      now += 1_000;
      trickling.read(1);
      slow.read(32_000);
      feeds.closeSlowMembers(NO_BACKPRESSURE);
      expect(cutOff()).toEqual([second === 30, false, false]);
    }
    now += 1_000;
    feeds.closeSlowMembers(NO_BACKPRESSURE);
    expect(cutOff()).toEqual([true, true, false]);
  });

  it('when it does not read a single large message, behind which nothing waits', () => {
    const [stuck, one] = [new Reader(), batch()];
    feeds.deliver(stuck.member, [Buffer.alloc(200_000)], one);
    expect([one.received, feeds.behindCount]).toEqual([1, 1]);
    now += 30_000;
    feeds.closeSlowMembers(NO_BACKPRESSURE);
    expect(stuck.isCutOff).toBe(true);
  });

  it('after 5 seconds without reading while reading from PostgreSQL is paused', () => {
    const stuck = behind();
    now += 5_000;
    feeds.closeSlowMembers(NO_BACKPRESSURE);
    expect(stuck.isCutOff).toBe(false);
    feeds.closeSlowMembers({ ...NO_BACKPRESSURE, isBlocked: true });
    expect(stuck.isCutOff).toBe(true);
  });

  it('when it reads, but blocks the change log while another member has received everything', () => {
    const [slow, one] = [new Reader(), batch()];
    feeds.deliver(slow.member, [large('a'), large('b'), large('c')], one);
    feeds.closeSlowMembers({ isBlocked: true, hasCaughtUpMember: false, oldest: one });
    expect(slow.isCutOff).toBe(false);
    feeds.closeSlowMembers({ isBlocked: true, hasCaughtUpMember: true, oldest: one });
    expect(slow.isCutOff).toBe(true);
  });
});

describe('room for content that is read only then', () => {
  it('is there at once for a member that keeps up, and else when it has received everything', async () => {
    const reader = new Reader();
    expect(await feeds.whenRoom(reader.member)).toBe(true);
    feeds.deliver(reader.member, [large('a'), large('b'), large('c')], batch());
    let hasRoom: boolean | undefined;
    const found = feeds.whenRoom(reader.member).then((found) => {
      hasRoom = found;
    });
    await Promise.resolve();
    expect([reader.got, hasRoom]).toEqual([['a', 'b'], undefined]);
    reader.drain();
    await found;
    expect([reader.got, hasRoom]).toEqual([['a', 'b', 'c'], true]);
  });

  it('is awaited before messages that come later', async () => {
    const reader = new Reader();
    feeds.deliver(reader.member, [large('a'), large('b')], batch());
    const found = feeds.whenRoom(reader.member);
    expect(feeds.behindCount).toBe(1);
    feeds.deliver(reader.member, [large('c')], batch());
    reader.drain();
    expect([await found, reader.got, feeds.behindCount]).toEqual([true, ['a', 'b', 'c'], 0]);
  });

  it('is never there for a member that leaves', async () => {
    const reader = new Reader();
    feeds.deliver(reader.member, [large('a'), large('b')], batch());
    const found = feeds.whenRoom(reader.member);
    feeds.remove(reader.member);
    expect([await found, feeds.behindCount]).toEqual([false, 0]);
  });
});
