import type { PresenceMap } from '@goforward/realtime-protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChannelPresence, mergeFields, type PresenceDelta, type PresenceFields } from './channel-presence.js';

const key = fc.constantFrom('status', 'last_seen', '__proto__', 'constructor', 'toString', 'a', 'b');
const patch: fc.Arbitrary<PresenceFields> = fc
  .array(fc.tuple(key, fc.oneof(fc.constant(null), fc.jsonValue({ maxDepth: 1 }))), { maxLength: 5 })
  .map((entries) => Object.fromEntries(entries));

const ownKeys = (fields: PresenceFields) => Object.keys(fields).toSorted();
const iso = (ms: number) => new Date(ms).toISOString();

describe('merging', () => {
  it('takes each key from the patch if present, else from before, and drops nulls', () => {
    fc.assert(
      fc.property(patch, patch, (before, change) => {
        const fields = mergeFields({}, before);
        const merged = mergeFields(fields, change);
        const expected = new Map(Object.entries(fields));
        for (const [name, value] of Object.entries(change)) expected.set(name, value);
        const kept = [...expected].filter(([name, value]) => name !== 'last_seen' && value !== null);
        expect(new Map(Object.entries(merged))).toEqual(new Map(kept));
      }),
    );
  });

  it('changes nothing when repeated or with an empty patch', () => {
    fc.assert(
      fc.property(patch, patch, (before, change) => {
        const once = mergeFields(mergeFields({}, before), change);
        expect(mergeFields(once, change)).toEqual(once);
        expect(mergeFields(once, {})).toEqual(once);
      }),
    );
  });

  it('does not modify its arguments, and replaces nested values as a whole', () => {
    const before = Object.freeze({ cursor: Object.freeze({ x: 1, y: 2 }), a: 1 });
    expect(mergeFields(before, Object.freeze({ cursor: { x: 5 }, a: null }))).toEqual({ cursor: { x: 5 } });
  });

  it('keeps a key named __proto__ as an ordinary own key', () => {
    const merged = mergeFields(
      {},
      JSON.parse('{"__proto__": {"isAdmin": true}, "constructor": {"prototype": 1}}'),
    );
    expect(ownKeys(merged)).toEqual(['__proto__', 'constructor']);
    expect(Object.getPrototypeOf(merged)).toBe(Object.prototype);
    expect('isAdmin' in merged).toBe(false);
    expect('isAdmin' in {}).toBe(false);
  });
});

describe('the list of users', () => {
  it('starts a user with status online and the current time', () => {
    const presence = new ChannelPresence();
    presence.join('ann', 1_000);
    expect(presence.snapshot()).toEqual({ ann: { status: 'online', last_seen: iso(1_000) } });
    expect([presence.count, presence.isListed('ann'), presence.isListed('bob')]).toEqual([1, true, false]);
  });

  it('keeps the state and renews last_seen when a user joins again', () => {
    const presence = new ChannelPresence();
    presence.set('ann', { mood: 'fine' }, 1_000);
    presence.join('ann', 2_000);
    expect(presence.snapshot()).toEqual({ ann: { mood: 'fine', last_seen: iso(2_000) } });
  });

  it('takes last_seen from the server, not from the user', () => {
    const presence = new ChannelPresence();
    presence.set('ann', presence.merged('ann', { last_seen: 'tomorrow' }), 1_000);
    expect(presence.snapshot()).toEqual({ ann: { status: 'online', last_seen: iso(1_000) } });
    presence.seen('ann', 3_000);
    expect(presence.snapshot().ann?.last_seen).toBe(iso(3_000));
  });

  it('lists a user named __proto__ like any other user', () => {
    const presence = new ChannelPresence();
    presence.join('__proto__', 0);
    expect(Object.entries(presence.snapshot())).toEqual([
      ['__proto__', { status: 'online', last_seen: iso(0) }],
    ]);
    expect(Object.keys(presence.takeDelta().joins)).toEqual(['__proto__']);
    presence.leave('__proto__');
    expect(Object.keys(presence.takeDelta().leaves)).toEqual(['__proto__']);
  });
});

describe('a delta', () => {
  it('is empty without changes since the last one', () => {
    const presence = new ChannelPresence();
    presence.join('ann', 0);
    presence.takeDelta();
    presence.seen('ann', 1);
    presence.leave('nobody');
    expect(presence.takeDelta()).toEqual({ joins: {}, updates: {}, leaves: {} });
  });

  it('merges several changes of one user into one, with the latest state', () => {
    const presence = new ChannelPresence();
    presence.join('ann', 0);
    presence.set('ann', { n: 1 }, 1);
    presence.set('ann', { n: 2 }, 2);
    expect(presence.takeDelta().joins).toEqual({ ann: { n: 2, last_seen: iso(2) } });
    presence.set('ann', { n: 3 }, 3);
    presence.set('ann', { n: 4 }, 4);
    expect(presence.takeDelta()).toEqual({
      joins: {},
      updates: { ann: { n: 4, last_seen: iso(4) } },
      leaves: {},
    });
  });

  it('omits a user who joined and left in between', () => {
    const presence = new ChannelPresence();
    presence.join('ann', 0);
    presence.leave('ann');
    expect(presence.takeDelta()).toEqual({ joins: {}, updates: {}, leaves: {} });
  });

  it('reports a user who left and rejoined as an update', () => {
    const presence = new ChannelPresence();
    presence.join('ann', 0);
    presence.takeDelta();
    presence.leave('ann');
    presence.join('ann', 5);
    expect(presence.takeDelta()).toEqual({
      joins: {},
      updates: { ann: { status: 'online', last_seen: iso(5) } },
      leaves: {},
    });
  });

  it('reports a user who left as offline with the last state, even if that changed since the last delta', () => {
    const presence = new ChannelPresence();
    presence.set('ann', { status: 'busy', n: 1 }, 1);
    presence.takeDelta();
    presence.set('ann', { status: 'away', n: 2 }, 2);
    presence.seen('ann', 3);
    presence.leave('ann');
    expect(presence.takeDelta()).toEqual({
      joins: {},
      updates: {},
      leaves: { ann: { status: 'offline', n: 2, last_seen: iso(3) } },
    });
  });

  it('applied to the previous list gives the present list, and names each user at most once', () => {
    const user = fc.constantFrom('ann', 'bob', '__proto__');
    const change = fc.oneof(
      fc.record({ do: fc.constant('join' as const), user }),
      fc.record({ do: fc.constant('leave' as const), user }),
      fc.record({ do: fc.constant('seen' as const), user }),
      fc.record({ do: fc.constant('set' as const), user, patch }),
      fc.record({ do: fc.constant('take' as const), user }),
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40, size: 'max' }), (changes) => {
        const presence = new ChannelPresence();
        const replica = new Map<string, string>();
        for (const [now, step] of [...changes, { do: 'take' as const, user: '' }].entries()) {
          if (step.do === 'join') presence.join(step.user, now);
          else if (step.do === 'leave') presence.leave(step.user);
          else if (step.do === 'seen') presence.seen(step.user, now);
          else if (step.do === 'set') presence.set(step.user, presence.merged(step.user, step.patch), now);
          else {
            applyDelta(replica, presence.takeDelta());
            expect(replica).toEqual(new Map(states(presence.snapshot())));
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});

/** Returns users and their states as JSON, without `last_seen`, which may change without a delta. */
function states(map: PresenceMap): [string, string][] {
  return Object.entries(map).map(([user, state]) => [
    user,
    JSON.stringify(Object.entries(state).filter(([name]) => name !== 'last_seen')),
  ]);
}

function applyDelta(replica: Map<string, string>, { joins, updates, leaves }: PresenceDelta): void {
  const named = [joins, updates, leaves].flatMap((users) => Object.keys(users));
  expect(new Set(named).size).toBe(named.length);
  for (const user of Object.keys(joins)) expect(replica.has(user)).toBe(false);
  for (const user of [...Object.keys(updates), ...Object.keys(leaves)]) expect(replica.has(user)).toBe(true);
  for (const [user, fields] of [...states(joins), ...states(updates)]) replica.set(user, fields);
  for (const user of Object.keys(leaves)) replica.delete(user);
}
