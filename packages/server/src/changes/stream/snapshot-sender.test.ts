import { setImmediate as tick } from 'node:timers/promises';
import { ProtocolError } from '@goforward/realtime-protocol';
import { beforeEach, describe, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../../tests/support/fake-subscriber.js';
import { RecordingLog } from '../../../../../tests/support/recording-log.js';
import type { Subscriber } from '../../channels/subscriber.js';
import { MemberFeeds } from '../delivery/member-feeds.js';
import { SnapshotSender } from './snapshot-sender.js';

const PAGE_BYTES = 70_000;

let now: number;
let feeds: MemberFeeds;
let sender: SnapshotSender;
let log: RecordingLog;

beforeEach(() => {
  now = 1_000;
  feeds = new MemberFeeds(() => now);
  log = new RecordingLog();
  const delivery = {
    sendRows: (
      member: Subscriber,
      { more }: { more: boolean },
      rows: string,
      batch: Parameters<MemberFeeds['deliver']>[2],
    ) => {
      feeds.deliver(member, [Buffer.alloc(PAGE_BYTES, rows)], batch);
      if (!more) feeds.deliver(member, [Buffer.from('.')], batch);
    },
  };
  sender = new SnapshotSender({ feeds, delivery, clock: () => now, log });
});

/** A member whose network takes bytes only when `drain` is called. */
class Reader {
  got = '';
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
        this.got += bytes.subarray(0, 1).toString();
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

  async drain(): Promise<void> {
    this.#drainedBytes += this.#waiting;
    this.#waiting = 0;
    const callback = this.#drained;
    this.#drained = undefined;
    callback?.();
    await tick();
  }
}

/** Sends the letters of `content` as pages. */
function send(member: Subscriber, content: string) {
  const state = { isWanted: true, read: 0, isClosed: false, ended: [] as unknown[] };
  const pages = {
    count: content.length,
    read: async (index: number) => {
      state.read += 1;
      if (content[index] === '!') throw new ProtocolError('DB_SUBSCRIPTION_FAILED');
      return content[index] ?? '';
    },
    close: () => {
      state.isClosed = true;
    },
  };
  sender.send(member, {
    subscriptionId: 'sub_1',
    pages,
    isWanted: () => state.isWanted,
    ended: (error) => state.ended.push(error?.code),
  });
  return state;
}

describe('a snapshot', () => {
  it('is read a page at a time, as its member has room, and ends when the last page was sent', async () => {
    const reader = new Reader();
    const snapshot = send(reader.member, 'abc');
    expect(snapshot.read).toBe(0);
    await tick();
    expect([reader.got, snapshot.read, snapshot.isClosed]).toEqual(['a', 1, false]);
    await reader.drain();
    expect([reader.got, snapshot.read]).toEqual(['ab', 2]);
    await reader.drain();
    expect([reader.got, snapshot.isClosed, snapshot.ended]).toEqual(['abc', true, [undefined]]);
    await reader.drain();
    expect(reader.got).toBe('abc.');
  });

  it('waits until the one before has been sent', async () => {
    const reader = new Reader();
    send(reader.member, 'ab');
    let isIdle = false;
    const idle = sender.whenIdle(reader.member, new AbortController().signal).then(() => {
      isIdle = true;
    });
    await tick();
    expect(isIdle).toBe(false);
    await reader.drain();
    await idle;
    await sender.whenIdle(reader.member, new AbortController().signal);
  });

  it.each([
    ['its member leaves', (reader: Reader) => feeds.remove(reader.member)],
    [
      'its subscription ends',
      async (reader: Reader, snapshot: { isWanted: boolean }) => {
        snapshot.isWanted = false;
        await reader.drain();
      },
    ],
  ])('is freed when %s', async (_when, end) => {
    const reader = new Reader();
    const snapshot = send(reader.member, 'abc');
    await tick();
    await end(reader, snapshot);
    await tick();
    expect([reader.got, snapshot.isClosed, snapshot.ended]).toEqual(['a', true, [undefined]]);
  });

  it('that cannot be read ends with the error', async () => {
    const reader = new Reader();
    const snapshot = send(reader.member, '!b');
    await tick();
    expect([reader.got, snapshot.isClosed, snapshot.ended]).toEqual(['', true, ['DB_SUBSCRIPTION_FAILED']]);
    expect(log.errors).toEqual([]);
  });
});

describe('a member with a snapshot', () => {
  async function pass(seconds: number): Promise<void> {
    for (let n = 0; n < seconds; n++) {
      now += 1_000;
      sender.closeSlowReaders();
      await tick();
    }
  }

  it('is closed when it has read nothing for ten seconds, which frees the file', async () => {
    const reader = new Reader();
    const snapshot = send(reader.member, 'abc');
    await tick();
    await pass(9);
    expect([reader.isCutOff, snapshot.isClosed]).toEqual([false, false]);
    await pass(1);
    expect([reader.isCutOff, snapshot.isClosed]).toEqual([true, true]);
  });

  it('is closed when it reads a page in five seconds, and not when it reads one in two', async () => {
    const content = 'x'.repeat(40);
    const [slow, fast] = [new Reader(), new Reader()];
    send(slow.member, content);
    send(fast.member, content);
    await tick();
    for (let second = 1; second <= 60; second++) {
      await pass(1);
      if (second % 5 === 0) await slow.drain();
      if (second % 2 === 0) await fast.drain();
    }
    expect([slow.isCutOff, fast.isCutOff]).toEqual([true, false]);
  });

  it('is not closed for what waits behind the last page', async () => {
    const reader = new Reader();
    send(reader.member, 'a');
    await tick();
    await pass(20);
    expect(reader.isCutOff).toBe(false);
  });
});
