import type { PresenceMode } from '@goforward/realtime-protocol';
import { SERVER_MESSAGES } from '@goforward/realtime-protocol/schemas';
import { Compile } from 'typebox/compile';
import { beforeEach, describe, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../tests/support/fake-subscriber.js';
import { Channel } from '../channels/channel.js';
import { channelConfig } from '../channels/channel-config.js';
import { MessageEncoder } from '../channels/message-encoder.js';
import { Tick } from '../lib/tick.js';
import { TimerWheel } from '../lib/timer-wheel.js';
import { PresenceTracker } from './presence-tracker.js';

const rethrow = (error: unknown) => {
  throw error;
};

const LEASE_MS = 60_000;
const START = Date.parse('2025-01-15T10:30:00Z');
/** How far the wall clock was set forward or back. */
let wallJump: number;
const wallClock = { epochMs: () => START + now + wallJump };
const joinMessage = Compile(SERVER_MESSAGES['presence/join']);

let now: number;
let tick: Tick;
let wheel: TimerWheel;
let channel: Channel;
let tracker: PresenceTracker;

beforeEach(() => {
  now = 0;
  wallJump = 0;
  tick = new Tick((error) => {
    throw error;
  });
  wheel = new TimerWheel(rethrow, () => now);
  const counters = { deliveries: 0, fanOutMs: () => undefined };
  channel = new Channel('lobby', 'automatic', channelConfig({}, 1_000), { tick, counters, now });
  tracker = presenceTracker();
});

function presenceTracker(enabled = true): PresenceTracker {
  const encoder = new MessageEncoder((json) => Buffer.from(`${json}\n`), wallClock);
  return new PresenceTracker({
    enabled,
    leaseMs: LEASE_MS,
    encoder,
    tick,
    wheel,
    clock: () => now,
    wallClock,
  });
}

/** Adds a member; `events` returns the messages since its last call, as `event user status`. */
function member(userId: string, presence: PresenceMode = 'each') {
  let bytes = '';
  const subscriber = fakeSubscriber({
    id: `c-${userId}`,
    userId,
    presence,
    push: (more) => {
      bytes += more.toString();
    },
  });
  channel.audience.join(subscriber);
  const received = () => {
    tick.flush();
    const lines = bytes.split('\n').filter((line) => line !== '');
    bytes = '';
    return lines.map((line) => JSON.parse(line));
  };
  const events = () =>
    received().map(({ event, payload }) => `${event} ${payload.user_id} ${payload.state.status}`);
  const leave = () => {
    channel.audience.leave(subscriber);
    tracker.disconnected(channel, userId);
  };
  return { received, events, leave };
}

function waitUntil(time: number): void {
  while (now < time) {
    now += 100;
    wheel.tick();
  }
}

describe('members', () => {
  it('get a message with the whole state when a user joins, updates and leaves', () => {
    const bob = member('bob');
    tracker.join(channel, 'ann');
    const [join] = bob.received();
    expect(joinMessage.Check(join)).toBe(true);
    expect(join).toMatchObject({
      type: 'presence',
      event: 'join',
      user_id: 'ann',
      payload: { user_id: 'ann', state: { status: 'online', last_seen: '2025-01-15T10:30:00.000Z' } },
    });
    now += 1_000;
    tracker.update(channel, 'ann', { mood: 'fine', last_seen: 'never' });
    expect(bob.received()[0]).toMatchObject({
      event: 'update',
      payload: { state: { status: 'online', mood: 'fine', last_seen: '2025-01-15T10:30:01.000Z' } },
    });
    tracker.leave(channel, 'ann');
    expect(bob.received()[0]).toMatchObject({
      event: 'leave',
      payload: { user_id: 'ann', state: { status: 'offline', mood: 'fine' } },
    });
    expect([tracker.count(channel), tracker.snapshot(channel)]).toEqual([0, {}]);
  });

  it('get one message per user for the changes of one tick', () => {
    const bob = member('bob');
    tracker.join(channel, 'ann');
    for (const status of ['a', 'b', 'c']) tracker.update(channel, 'ann', { status });
    tracker.update(channel, 'cat', { status: 'd' });
    expect(bob.events()).toEqual(['join ann c', 'join cat d']);
    tracker.update(channel, 'ann', { status: 'e' });
    tracker.leave(channel, 'cat');
    tracker.join(channel, 'dan');
    tracker.leave(channel, 'dan');
    expect(bob.events()).toEqual(['update ann e', 'leave cat offline']);
  });

  it('get single messages, merged messages or none, by their presence mode', () => {
    const [each, diff, none] = [member('a', 'each'), member('b', 'diff'), member('c', 'none')];
    tracker.join(channel, 'ann');
    tracker.join(channel, 'bob');
    expect(each.events()).toEqual(['join ann online', 'join bob online']);
    const [merged, ...more] = diff.received();
    const state = { status: 'online', last_seen: '2025-01-15T10:30:00.000Z' };
    expect(merged).toMatchObject({
      type: 'presence',
      event: 'diff',
      user_id: 'system',
      payload: { joins: { ann: state, bob: state }, updates: {}, leaves: {} },
    });
    expect([more, none.received()]).toEqual([[], []]);
  });

  it('get nothing when nothing changed', () => {
    const [each, diff] = [member('a', 'each'), member('b', 'diff')];
    tracker.join(channel, 'ann');
    tracker.leave(channel, 'ann');
    tracker.leave(channel, 'nobody');
    tracker.seen(channel, 'nobody');
    expect([each.received(), diff.received()]).toEqual([[], []]);
  });
});

describe('a user with several connections', () => {
  it('leaves once, with the last connection', () => {
    const bob = member('bob');
    const connections = [member('ann'), member('ann'), member('ann')];
    for (let n = 0; n < 3; n++) tracker.join(channel, 'ann');
    expect(bob.events()).toEqual(['join ann online']);
    for (const [left, { leave }] of connections.entries()) {
      leave();
      expect(bob.events()).toEqual(left === 2 ? ['leave ann offline'] : []);
    }
  });

  it('is listed once, with one state', () => {
    member('ann');
    tracker.join(channel, 'ann');
    tracker.update(channel, 'ann', { mood: 'fine' });
    member('ann');
    tracker.join(channel, 'ann');
    expect(tracker.snapshot(channel)).toMatchObject({ ann: { status: 'online', mood: 'fine' } });
  });
});

describe('a user without a connection', () => {
  it('is listed for the lease time, renewed by each update', () => {
    const bob = member('bob');
    tracker.update(channel, 'ann', { status: 'away' });
    waitUntil(LEASE_MS - 100);
    tracker.update(channel, 'ann', { status: 'back' });
    waitUntil(2 * LEASE_MS - 200);
    expect(bob.events()).toEqual(['join ann back']);
    waitUntil(2 * LEASE_MS);
    expect(bob.events()).toEqual(['leave ann offline']);
    expect(tracker.count(channel)).toBe(0);
  });

  it.each([3_600_000, -3_600_000])(
    'is listed for the lease time after the wall clock was set by %d ms; last_seen follows it',
    (jump) => {
      tracker.update(channel, 'ann', {});
      wallJump = jump;
      waitUntil(LEASE_MS - 100);
      expect(tracker.count(channel)).toBe(1);
      tracker.seen(channel, 'ann');
      const lastSeen = new Date(START + LEASE_MS - 100 + jump).toISOString();
      expect(tracker.snapshot(channel)).toMatchObject({ ann: { last_seen: lastSeen } });
      waitUntil(LEASE_MS);
      expect(tracker.count(channel)).toBe(0);
    },
  );

  it('who then connects is listed until the connection closes', () => {
    tracker.update(channel, 'ann', { status: 'away' });
    const ann = member('ann');
    tracker.join(channel, 'ann');
    waitUntil(3 * LEASE_MS);
    expect(tracker.snapshot(channel)).toMatchObject({ ann: { status: 'away' } });
    ann.leave();
    expect(tracker.count(channel)).toBe(0);
  });

  it('who then connects with presence=none and sends an update is listed until the connection closes', () => {
    tracker.update(channel, 'ann', { status: 'away' });
    const ann = member('ann', 'none');
    tracker.update(channel, 'ann', { status: 'here' });
    waitUntil(3 * LEASE_MS);
    expect(tracker.snapshot(channel)).toMatchObject({ ann: { status: 'here' } });
    ann.leave();
    expect(tracker.count(channel)).toBe(0);
  });

  it('who then connects with presence=none stays listed until the connection closes', () => {
    const watcher = member('watcher');
    tracker.update(channel, 'ann', { status: 'busy' });
    expect(watcher.events()).toEqual(['join ann busy']);
    const ann = member('ann', 'none');
    tracker.connected(channel, 'ann');
    waitUntil(2 * LEASE_MS);
    expect(tracker.snapshot(channel)).toHaveProperty('ann');
    ann.leave();
    expect(tracker.snapshot(channel)).toEqual({});
    expect(watcher.events()).toEqual(['leave ann offline']);
  });

  it('who leaves and is listed again is not removed by the old lease', () => {
    tracker.update(channel, 'ann', {});
    waitUntil(30_000);
    tracker.leave(channel, 'ann');
    tracker.update(channel, 'ann', {});
    waitUntil(LEASE_MS + 10_000);
    expect(tracker.count(channel)).toBe(1);
    waitUntil(LEASE_MS + 30_000);
    expect(tracker.count(channel)).toBe(0);
  });
});

describe('a presence state', () => {
  const room = 8_192 - JSON.stringify({ status: 'online', text: '' }).length;

  it('may have 8192 bytes as JSON and no byte more; a rejected update changes nothing', () => {
    tracker.join(channel, 'ann');
    tracker.update(channel, 'ann', { text: `${'x'.repeat(room - 2)}é` });
    const before = tracker.snapshot(channel);
    for (const patch of [{ text: 'x'.repeat(room + 1) }, { more: 1 }]) {
      expect(() => tracker.update(channel, 'ann', patch)).toThrow('message too large');
    }
    expect(tracker.snapshot(channel)).toEqual(before);
    tracker.update(channel, 'ann', { text: null, more: 1 });
    expect(tracker.snapshot(channel)).toMatchObject({ ann: { status: 'online', more: 1 } });
  });

  it('that is too large does not list the user', () => {
    expect(() => tracker.update(channel, 'ann', { text: 'x'.repeat(room + 1) })).toThrow('message too large');
    expect(tracker.count(channel)).toBe(0);
  });

  it('has a new last_seen after each message of its user, without a presence message', () => {
    const bob = member('bob');
    tracker.join(channel, 'ann');
    bob.events();
    now += 5_000;
    tracker.seen(channel, 'ann');
    expect(tracker.snapshot(channel).ann?.last_seen).toBe('2025-01-15T10:30:05.000Z');
    expect(bob.events()).toEqual([]);
  });
});

describe('a new member', () => {
  it('gets one join per listed user, at most 200', () => {
    for (let n = 0; n < 201; n++) tracker.join(channel, `user-${n}`);
    const messages = tracker.joinMessages(channel).map((bytes) => JSON.parse(bytes.toString()));
    expect(messages).toHaveLength(200);
    expect(new Set(messages.map(({ payload }) => payload.user_id)).size).toBe(200);
    expect(messages.every((message) => joinMessage.Check(message))).toBe(true);
    expect(tracker.count(channel)).toBe(201);
  });

  it('who joins after pending changes were sent does not get them again', () => {
    const bob = member('bob');
    tracker.join(channel, 'ann');
    tracker.flushPending(channel);
    const cat = member('cat');
    tracker.join(channel, 'cat');
    expect(bob.events()).toEqual(['join ann online', 'join cat online']);
    expect(cat.events()).toEqual(['join cat online']);
  });
});

describe('disabled presence', () => {
  it('lists nobody and rejects updates with FEATURE_DISABLED', () => {
    const off = presenceTracker(false);
    off.join(channel, 'ann');
    expect([off.count(channel), off.snapshot(channel), off.joinMessages(channel)]).toEqual([0, {}, []]);
    for (const act of [() => off.update(channel, 'ann', {}), () => off.leave(channel, 'ann')]) {
      expect(act).toThrow(
        expect.objectContaining({ body: expect.objectContaining({ feature: 'presence' }) }),
      );
    }
    off.disconnected(channel, 'ann');
  });
});
