import { PRESENCE_MODES, type PresenceMode } from '@goforward/realtime-protocol/schemas';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../tests/support/fake-subscriber.js';
import { Tick } from '../lib/tick.js';
import { Audience } from './audience.js';
import type { Subscriber } from './subscriber.js';

/** A member that records what is pushed to it. */
class Member implements Subscriber {
  readonly id: string;
  readonly userId: string;
  readonly echo: boolean;
  readonly presence: PresenceMode;
  readonly pushes: Buffer[] = [];
  readonly identity: Subscriber['identity'];
  readonly bufferedBytes = 0;
  readonly drainedBytes = 0;

  constructor(options: { id?: string; userId?: string; echo?: boolean; presence?: PresenceMode } = {}) {
    this.id = options.id ?? 'c1';
    this.userId = options.userId ?? 'ann';
    this.echo = options.echo ?? true;
    this.presence = options.presence ?? 'each';
    this.identity = fakeSubscriber({ userId: this.userId }).identity;
  }

  get text(): string {
    return Buffer.concat(this.pushes).toString();
  }

  push(bytes: Buffer): void {
    this.pushes.push(bytes);
  }

  pushPaced(bytes: Buffer): void {
    this.push(bytes);
  }

  whenDrained(callback: () => void): void {
    callback();
  }

  closeSlowConsumer(): void {
    throw new Error('an audience does not pace members');
  }

  channelClosed(): void {
    throw new Error('an audience does not close channels');
  }
}

function setUp() {
  const errors: unknown[] = [];
  const tick = new Tick((error) => errors.push(error));
  const counters = { deliveries: 0, fanOutMs: () => undefined };
  return { audience: new Audience(tick, counters), tick, counters, errors };
}

const bytes = (text: string) => Buffer.from(text);

type Step =
  | { do: 'join' | 'leave' | 'catchUp' | 'own'; member: number }
  | { do: 'send'; sender: number | null; mode: PresenceMode | null }
  | { do: 'flush' };

const member = fc.nat({ max: 5 });
const steps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('join' as const, 'leave' as const), member }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('catchUp' as const, 'own' as const), member }) },
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('send' as const),
        sender: fc.option(member),
        mode: fc.option(fc.constantFrom(...PRESENCE_MODES), { freq: 2 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('flush' as const) }) },
  ),
  { maxLength: 60, size: 'max' },
);

/**
 * Compares with a naive model: each message goes at once to everyone who is a member when it is sent. A
 * member that leaves is caught up first, as connections do. `own` is a message to one member alone, which
 * must come in order.
 */
function expectAsModel(run: Step[]): void {
  const { audience, tick, counters } = setUp();
  const members = Array.from(
    { length: 6 },
    (_, i) =>
      new Member({
        id: `c${i}`,
        userId: `user${i % 4}`,
        echo: i % 2 === 0,
        presence: PRESENCE_MODES[i % 3] ?? 'each',
      }),
  );
  const expected = members.map(() => '');
  const isIn = members.map(() => false);
  let delivered = 0;
  for (const [n, step] of run.entries()) {
    if (step.do === 'flush') tick.flush();
    else if (step.do === 'send') {
      const sender = step.sender === null ? undefined : members[step.sender];
      audience.send(bytes(`${n};`), { sender, ...(step.mode === null ? {} : { mode: step.mode }) });
      for (const [i, one] of members.entries()) {
        if (!isIn[i] || (step.mode !== null && step.mode !== one.presence)) continue;
        if (one === sender && !one.echo) continue;
        expected[i] += `${n};`;
        delivered += 1;
      }
    } else {
      const one = members[step.member];
      if (one === undefined) throw new Error('no such member');
      if (step.do === 'join') audience.join(one);
      else audience.catchUp(one);
      if (step.do === 'leave') audience.leave(one);
      if (step.do === 'join' || step.do === 'leave') isIn[step.member] = step.do === 'join';
      if (step.do === 'own') {
        one.push(bytes(`own${n};`));
        expected[step.member] += `own${n};`;
      }
    }
    expect(audience.size).toBe(isIn.filter(Boolean).length);
    const users = new Set(members.filter((_, i) => isIn[i]).map(({ userId }) => userId));
    expect(audience.users.toSorted()).toEqual([...users].toSorted());
  }
  tick.flush();
  expect(members.map(({ text }) => text)).toEqual(expected);
  expect(counters.deliveries).toBe(delivered);
}

describe('an audience', () => {
  it('sends every member exactly the messages sent during its membership, in order', () => {
    fc.assert(fc.property(steps, expectAsModel), { numRuns: 300 });
  });

  it('pushes the same single buffer to all members of one mode, once per tick', () => {
    const { audience, tick } = setUp();
    const [a, b, c] = [new Member(), new Member({ id: 'c2' }), new Member({ id: 'c3', presence: 'none' })];
    for (const one of [a, b, c]) audience.join(one);
    audience.send(bytes('1;'));
    audience.send(bytes('2;'), { mode: 'each' });
    tick.flush();
    expect([a.text, b.text, c.text]).toEqual(['1;2;', '1;2;', '1;']);
    expect(a.pushes).toHaveLength(1);
    expect(a.pushes[0]).toBe(b.pushes[0]);
  });

  it('pushes a single message without copying it', () => {
    const { audience, tick } = setUp();
    const one = new Member();
    audience.join(one);
    const sent = bytes('1;');
    audience.send(sent);
    tick.flush();
    expect(one.pushes[0]).toBe(sent);
  });

  it('pushes nothing to a member without messages', () => {
    const { audience, tick } = setUp();
    const one = new Member({ presence: 'none' });
    const publisher = new Member({ id: 'c2', echo: false, presence: 'none' });
    for (const joining of [one, publisher]) audience.join(joining);
    audience.send(bytes('presence'), { mode: 'diff' });
    tick.flush();
    audience.leave(one);
    audience.send(bytes('mine'), { sender: publisher });
    tick.flush();
    expect([one.pushes, publisher.pushes]).toEqual([[], []]);
  });

  it('counts the connections of a user, and lists the user until the last one has left', () => {
    const { audience } = setUp();
    const [a, b] = [new Member(), new Member({ id: 'c2' })];
    for (const one of [a, b, a]) audience.join(one);
    expect([audience.size, audience.userCount, audience.connectionsOf('ann')]).toEqual([2, 1, 2]);
    for (const one of [a, a]) audience.leave(one);
    expect([audience.size, audience.users, audience.connectionsOf('ann')]).toEqual([1, ['ann'], 1]);
    audience.leave(b);
    expect([audience.size, audience.users, audience.connectionsOf('ann')]).toEqual([0, [], 0]);
  });

  it('knows the presence modes of its members', () => {
    const { audience } = setUp();
    const diff = new Member({ presence: 'diff' });
    audience.join(diff);
    expect(PRESENCE_MODES.filter((mode) => audience.hasPresenceMode(mode))).toEqual(['diff']);
    audience.leave(diff);
    expect(PRESENCE_MODES.filter((mode) => audience.hasPresenceMode(mode))).toEqual([]);
  });

  it('allows members to leave during a push; the others still get the message', () => {
    const { audience, tick } = setUp();
    const [a, b] = [new Member(), new Member({ id: 'c2' })];
    const slow = new Member({ id: 'c0' });
    let isCutOff = false;
    slow.push = () => {
      if (isCutOff) return;
      isCutOff = true;
      audience.catchUp(slow);
      audience.leave(slow);
    };
    for (const one of [a, slow, b]) audience.join(one);
    audience.send(bytes('1;'));
    tick.flush();
    audience.send(bytes('2;'));
    tick.flush();
    expect([a.text, b.text, audience.size]).toEqual(['1;2;', '1;2;', 2]);
  });

  it('works in the next tick after an error in this one', () => {
    const { audience, tick, errors } = setUp();
    const [broken, whole] = [new Member(), new Member({ id: 'c2' })];
    broken.push = () => {
      throw new Error('a defect');
    };
    for (const one of [whole, broken]) audience.join(one);
    audience.send(bytes('1;'));
    tick.flush();
    audience.leave(broken);
    audience.send(bytes('2;'));
    tick.flush();
    expect(whole.text).toBe('1;2;');
    expect(errors).toEqual([new Error('a defect')]);
  });
});
