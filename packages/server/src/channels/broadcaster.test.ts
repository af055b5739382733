import { type ErrorBody, ProtocolError } from '@goforward/realtime-protocol';
import { beforeEach, describe, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../tests/support/fake-subscriber.js';
import type { Identity } from '../auth/identity.js';
import { JsonText } from '../lib/json-text.js';
import { Tick } from '../lib/tick.js';
import { Broadcaster, type Publication, type PublishCounters } from './broadcaster.js';
import { Channel } from './channel.js';
import { type ChannelPermissions, channelConfig } from './channel-config.js';
import { MessageEncoder } from './message-encoder.js';
import { Permissions } from './permissions.js';

let now: number;
let tick: Tick;
let counters: PublishCounters;

beforeEach(() => {
  counters = { published: { websocket: 0, http: 0 } };
  now = Date.parse('2025-01-15T10:30:00Z');
  tick = new Tick((error) => {
    throw error;
  });
});

function broadcaster(enabled = true): Broadcaster {
  const clock = () => now;
  const encoder = new MessageEncoder((json) => Buffer.from(`${json}\n`), { epochMs: clock });
  return new Broadcaster({ permissions: new Permissions(['admin']), encoder, counters, clock, enabled });
}

function channel(permissions: ChannelPermissions = {}): Channel {
  const parts = { tick, counters: { deliveries: 0, fanOutMs: () => undefined }, now };
  return new Channel('lobby', 'automatic', channelConfig({ permissions }, 100), parts);
}

function identity(userId: string, role = 'user'): Identity {
  return { userId, limitedAs: userId, roles: [role], expiresAt: null, claims: {} };
}

/** Adds a member to the channel; `received` are the messages that it got. */
function member(of: Channel, echo = true) {
  const received: unknown[] = [];
  const subscriber = fakeSubscriber({
    echo,
    push: (bytes) =>
      received.push(
        ...bytes
          .toString()
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line)),
      ),
  });
  of.audience.join(subscriber);
  return { subscriber, received };
}

const publication = (bytes = 10): Publication => ({
  type: 'message',
  event: 'chat',
  payload: new JsonText('{"n":1.0}'),
  bytes,
});

function refusal(publish: () => unknown): ErrorBody | undefined {
  try {
    publish();
    return undefined;
  } catch (error) {
    if (error instanceof ProtocolError) return error.body;
    throw error;
  }
}

describe('a publication', () => {
  it('reaches all members, including the sender, with the returned id', () => {
    const lobby = channel();
    const [ann, bob] = [member(lobby), member(lobby)];
    const id = broadcaster().publish(lobby, identity('ann'), publication(), ann.subscriber);
    tick.flush();
    const expected = {
      id,
      type: 'message',
      event: 'chat',
      payload: { n: 1 },
      user_id: 'ann',
      timestamp: '2025-01-15T10:30:00.000Z',
    };
    expect([ann.received, bob.received]).toEqual([[expected], [expected]]);
  });

  it('is not echoed to a sender with echo off', () => {
    const lobby = channel();
    const [ann, bob] = [member(lobby, false), member(lobby, false)];
    broadcaster().publish(lobby, identity('ann'), { ...publication(), type: 'broadcast' }, ann.subscriber);
    tick.flush();
    expect(ann.received).toEqual([]);
    expect(bob.received).toMatchObject([{ type: 'broadcast' }]);
  });

  it('is counted by its source after it has passed the checks', () => {
    const lobby = channel({ max_message_size: 10 });
    const { subscriber } = member(lobby);
    const sending = broadcaster();
    sending.publish(lobby, identity('ann'), publication(), subscriber);
    sending.publish(lobby, identity('ann'), publication());
    sending.publish(lobby, identity('ann'), publication());
    refusal(() => sending.publish(lobby, identity('ann'), publication(11)));
    expect(counters.published).toEqual({ websocket: 1, http: 2 });
  });

  it('renews the time of last use of the channel', () => {
    const lobby = channel();
    now += 5_000;
    broadcaster().publish(lobby, identity('ann'), publication());
    expect(lobby.lastUsed).toBe(now);
  });

  it('is rejected with FEATURE_DISABLED before any other check when broadcast is off', () => {
    const lobby = channel({ write: [] });
    expect(refusal(() => broadcaster(false).publish(lobby, identity('ann'), publication()))).toEqual({
      error: 'feature disabled',
      code: 'FEATURE_DISABLED',
      feature: 'broadcast',
    });
  });

  it('without write permission is rejected before its size is checked, and reaches nobody', () => {
    const lobby = channel({ write: ['editor'], max_message_size: 1 });
    const bob = member(lobby);
    expect(refusal(() => broadcaster().publish(lobby, identity('ann'), publication()))).toEqual({
      error: 'insufficient permissions',
      code: 'PERMISSION_DENIED',
      required_permission: 'write',
    });
    tick.flush();
    expect(bob.received).toEqual([]);
  });

  it('may be exactly as large as the channel allows, and no byte larger', () => {
    const lobby = channel({ max_message_size: 10 });
    expect(refusal(() => broadcaster().publish(lobby, identity('ann'), publication(10)))).toBeUndefined();
    expect(refusal(() => broadcaster().publish(lobby, identity('ann'), publication(11)))).toEqual({
      error: 'message too large',
      code: 'MESSAGE_TOO_LARGE',
      max_bytes: 10,
    });
  });

  it('is limited by the rate of the channel, per user and per channel', () => {
    const [lobby, other] = [channel({ rate_limit: 2 }), channel({ rate_limit: 2 })];
    const sending = broadcaster();
    const codes = (user: string, to: Channel, times: number) =>
      Array.from(
        { length: times },
        () => refusal(() => sending.publish(to, identity(user), publication()))?.code,
      );
    const tooFast = 'RATE_LIMIT_EXCEEDED';
    expect(codes('ann', lobby, 3)).toEqual([undefined, undefined, tooFast]);
    expect(codes('bob', lobby, 3)).toEqual([undefined, undefined, tooFast]);
    expect(codes('ann', other, 1)).toEqual([undefined]);
    now += 500;
    expect(codes('ann', lobby, 2)).toEqual([undefined, tooFast]);
  });

  it('over the rate is rejected with a retry_after in seconds', () => {
    const lobby = channel({ rate_limit: 0.1 });
    const sending = broadcaster();
    sending.publish(lobby, identity('ann'), publication());
    expect(refusal(() => sending.publish(lobby, identity('ann'), publication()))).toEqual({
      error: 'rate limit exceeded',
      code: 'RATE_LIMIT_EXCEEDED',
      retry_after: 10,
    });
  });

  it('that is too large does not count against the rate', () => {
    const lobby = channel({ rate_limit: 1, max_message_size: 10 });
    const sending = broadcaster();
    for (let n = 0; n < 3; n++) refusal(() => sending.publish(lobby, identity('ann'), publication(11)));
    expect(refusal(() => sending.publish(lobby, identity('ann'), publication(10)))).toBeUndefined();
  });
});
