import { afterEach, beforeEach, expect, it } from 'vitest';
import { fakeSubscriber } from '../../../../../tests/support/fake-subscriber.js';
import type { Channel } from '../../channels/channel.js';
import type { Subscriber } from '../../channels/subscriber.js';
import { silentLog } from '../../lib/log.js';
import type { Position } from '../model/position.js';
import { Replays, type ReplaysParts } from './replays.js';

const PAGE = 10;
const LAST = 100;

let replays: Replays;
/** The positions that pages were read from. */
let pages: number[];
/** The positions of each member, as pages were delivered to it. */
let delivered: Map<string, number[]>;
let onPage: () => void;
let left: Set<Subscriber>;
/** The members that went live, by id. */
let live: string[];
/** The members for whom a shared page is not decided. */
let slow: Set<Subscriber>;
let beforeSlowPage: () => Promise<void>;
let isCovered: boolean;
let sent: string[];
const channel = { audience: { has: (member: Subscriber) => !left.has(member) } } as unknown as Channel;

function at(index: number): Position {
  return { commitLsn: 1n, index };
}

interface Joined {
  readonly members: ReadonlySet<Subscriber>;
}

/** Routes a page to these members. */
async function routed(isOwn: boolean, page: readonly Subscriber[]) {
  if (isOwn) await beforeSlowPage();
  const undecided = isOwn ? [] : page.filter((member) => slow.has(member));
  const group = { channel, members: new Set(undecided) };
  return {
    deliveries: page.filter((member) => !undecided.includes(member)),
    costs: [],
    undecided: new Map(undecided.length === 0 ? [] : [[group, 'slow']]),
  };
}

function memberOf(user: string, id: string): Subscriber {
  const identity = { userId: user, limitedAs: user, roles: ['user'], expiresAt: null, claims: {} };
  return fakeSubscriber({ id, userId: user, identity });
}

beforeEach(() => {
  pages = [];
  delivered = new Map();
  left = new Set();
  live = [];
  slow = new Set();
  beforeSlowPage = async () => undefined;
  isCovered = true;
  sent = [];
  onPage = () => undefined;
  const parts = {
    resumeLog: {
      read: async ({ index }: Position) => {
        pages.push(index);
        onPage();
        return { changes: [], end: at((Math.floor(index / PAGE) + 1) * PAGE) };
      },
      covers: () => isCovered,
      hasAfter: ({ index }: Position) => index < LAST,
    },
    router: { route: (_request: unknown, { members }: Joined) => routed(false, [...members]) },
    slowRouter: { route: (_request: unknown, { members }: Joined) => routed(true, [...members]) },
    conditionLimits: { charge: () => undefined },
    outcomeCounts: { countReplay: () => undefined },
    newRecipients: () => {
      const members = new Set<Subscriber>();
      const join = (member: Subscriber) => void members.add(member);
      return { members, join, refresh: join, leave: (member: Subscriber) => void members.delete(member) };
    },
    delivery: {
      send: (_member: Subscriber, event: string) => sent.push(event),
      deliver: (page: Subscriber[], _changes: unknown, positionOf: (member: Subscriber) => Position) => {
        for (const member of page)
          delivered.set(member.id, [...(delivered.get(member.id) ?? []), positionOf(member)?.index]);
      },
    },
    feeds: { onCaughtUp: () => undefined, isBehind: () => false },
    epoch: () => 'e',
    isBehindCurrentBatch: () => false,
    tablesOf: () => [],
    ownTablesOf: () => [],
    goLive: (member: Subscriber) => live.push(member.id),
    restartPosition: () => at(LAST),
    clock: () => performance.now(),
    log: silentLog,
  } as unknown as ReplaysParts;
  replays = new Replays(parts);
});

afterEach(() => replays.stop());

function caughtUp(): Promise<void> {
  return new Promise((resolve) => {
    const look = () => (replays.size === 0 ? resolve() : setImmediate(look));
    look();
  });
}

it('one page is for all members that need it, and every member gets every page once and in order', async () => {
  const [behind, ahead] = [memberOf('ann', 'behind'), memberOf('bob', 'ahead')];
  replays.add(behind, channel, at(0));
  replays.add(ahead, channel, at(45));
  await caughtUp();
  expect(delivered.get('behind')).toEqual([0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  expect(delivered.get('ahead')).toEqual([45, 50, 60, 70, 80, 90]);
});

it('a user who resumes from far back again and again does not keep another user from catching up', async () => {
  let eve = memberOf('eve', 'eve');
  const ann = memberOf('ann', 'ann');
  replays.add(eve, channel, at(0));
  replays.add(ann, channel, at(50));
  onPage = () => {
    if (pages.length > 60) {
      left.add(eve);
      left.add(ann);
    }
    if (left.has(eve)) return;
    left.add(eve);
    eve = memberOf('eve', `eve ${pages.length}`);
    replays.add(eve, channel, at(0));
    if ((delivered.get('ann')?.length ?? 0) >= 5) left.add(eve);
  };
  await caughtUp();
  expect(delivered.get('ann')).toEqual([50, 60, 70, 80, 90]);
  expect(pages.length).toBeLessThan(20);
});

it('a member that was not decided in time gets every page once and in order, and delays nobody', async () => {
  const [eve, ann] = [memberOf('eve', 'eve'), memberOf('ann', 'ann')];
  slow.add(eve);
  let isHeld = true;
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  beforeSlowPage = () => (isHeld ? held : Promise.resolve());
  replays.addUndecided(eve, channel, at(0), 'behind');
  replays.add(ann, channel, at(0));
  expect(replays.delayedCount).toBe(1);
  while (!live.includes('ann')) await new Promise((resolve) => setImmediate(resolve));
  expect(delivered.get('ann')).toEqual([0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  expect([delivered.get('eve'), replays.size]).toEqual([undefined, 1]);
  isHeld = false;
  release();
  await caughtUp();
  expect(delivered.get('eve')).toEqual([0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  expect(live).toEqual(['ann', 'eve']);
});

it('all members go live when a new change epoch begins, but for those that never left the live stream', () => {
  const [eve, ann] = [memberOf('eve', 'eve'), memberOf('ann', 'ann')];
  replays.pause(ann, channel, at(LAST));
  replays.addUndecided(eve, channel, at(0), 'slow');
  replays.restart(at(LAST));
  expect([live, replays.size]).toEqual([['eve'], 1]);
});

it('a member that is paused gets the gap for changes that are no longer kept when it resumes', async () => {
  const [ann, bob] = [memberOf('ann', 'ann'), memberOf('bob', 'bob')];
  isCovered = false;
  replays.pause(ann, channel, at(0));
  replays.add(bob, channel, at(0));
  await new Promise((resolve) => setImmediate(resolve));
  expect([sent, replays.willReplay(ann, at(LAST))]).toEqual([['gap'], true]);
  replays.resume(ann);
  await caughtUp();
  expect(sent).toEqual(['gap', 'gap']);
});

it('a member that is paused when a change epoch begins gets it from its start, when it resumes', async () => {
  const [ann, bob] = [memberOf('ann', 'ann'), memberOf('bob', 'bob')];
  replays.pause(ann, channel, at(LAST));
  replays.pause(bob, channel, at(LAST));
  replays.resume(bob);
  replays.restart(at(60));
  expect([replays.willReplay(ann, at(70)), replays.willReplay(bob, at(70))]).toEqual([true, false]);
  replays.resume(ann);
  await caughtUp();
  expect([delivered.get('ann'), delivered.get('bob')]).toEqual([[60, 70, 80, 90], undefined]);
});
