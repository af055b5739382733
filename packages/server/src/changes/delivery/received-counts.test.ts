import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../../tests/support/fake-subscriber.js';
import type { ListedMessage } from '../routing/group-deliveries.js';
import type { Subscription } from '../subscriptions/subscription.js';
import { ReceivedCounts } from './received-counts.js';

const SUBSCRIPTIONS = ['one', 'two'].map((id) => ({ id }) as unknown as Subscription);
const [ONE, TWO] = SUBSCRIPTIONS as [Subscription, Subscription];
const NOTHING = { messageCount: 0, lastActivity: null };

let now = 0;
const wallClock = { epochMs: () => now };
const message = (subscriptions: readonly Subscription[]): ListedMessage => ({
  batchIndex: 0,
  frame: Buffer.alloc(1),
  subscriptions,
});

describe('what users have received', () => {
  it('is the sum over their own connections, with the time of the last delivery', () => {
    const counts = new ReceivedCounts(wallClock);
    const [ada, ada2, bob] = ['ada', 'ada', 'bob'].map((userId) => fakeSubscriber({ userId }));
    const members = [ada, ada2, bob].filter((member) => member !== undefined);
    for (const member of members) counts.joined(member);
    const shared = [message([ONE]), message([ONE, TWO]), message([])];
    now = 1_000;
    const first = counts.startDelivery();
    for (const member of members.slice(0, 2)) first(member, [shared, [message([TWO])]]);
    now = 2_000;
    counts.startDelivery()(fakeSubscriber({ userId: 'ada' }), [shared]);
    expect(counts.of('ada', ONE)).toEqual({ messageCount: 4, lastActivity: new Date(1_000) });
    expect(counts.of('ada', TWO)).toEqual({ messageCount: 4, lastActivity: new Date(1_000) });
    expect(counts.of('bob', ONE)).toEqual(NOTHING);
  });

  it('ends with the last connection', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 2 }), { maxLength: 20 }), (steps) => {
        const counts = new ReceivedCounts(wallClock);
        const members = Array.from({ length: 3 }, () => fakeSubscriber({ userId: 'ada' }));
        const open = new Set<unknown>();
        let expected = 0;
        for (const n of steps) {
          const member = members[n];
          if (member === undefined) continue;
          if (open.delete(member)) counts.left(member);
          else {
            open.add(member);
            counts.joined(member);
          }
          counts.startDelivery()(member, [[message([ONE])]]);
          expected = open.size === 0 ? 0 : expected + (open.has(member) ? 1 : 0);
          expect(counts.of('ada', ONE).messageCount).toBe(expected);
        }
      }),
    );
  });

  it('is not counted for anonymous users, whose ids a token may have too', () => {
    const counts = new ReceivedCounts(wallClock);
    const { identity } = fakeSubscriber();
    const member = fakeSubscriber({ userId: 'anon_1', identity: { ...identity, isAnonymous: true } });
    counts.joined(member);
    counts.startDelivery()(member, [[message([ONE])]]);
    expect(counts.of('anon_1', ONE)).toEqual(NOTHING);
  });
});
